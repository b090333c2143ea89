#include "rev/models/llama.h"

#include <cmath>
#include <gtest/gtest.h>
#include <map>
#include <string>
#include <torch/torch.h>
#include <tuple>

#include "rev/base/autocast_state.h"
#include "rev/models/gpt2.h"
#include "support/throws.h"

namespace rev::models {
namespace {

using at::Tensor;

LlamaConfig small(const std::string& scheme) {
  LlamaConfig config;
  config.layers = 3;
  config.heads = 4;
  config.kv_heads = 2;
  config.channels = 20;
  config.hidden = 28;
  config.seq = 24;
  config.vocab = 31;
  config.rotary.width = 6;
  config.attention_bias = true;
  config.mlp_bias = true;
  config.scheme = scheme;
  return config;
}

TEST(LlamaTest, HasHuggingFacesNamesAndShapes) {
  LlamaConfig config = small("midpoint");
  config.layers = 1;
  const Llama model(config);
  std::map<std::string, std::string> shapes;
  double n = 0;
  for (const auto& [name, tensor] : model->state_dict()) {
    shapes[name] = c10::str(tensor.sizes());
    n += static_cast<double>(tensor.numel());
  }
  EXPECT_EQ(n, count_parameters(config));
  const std::string layer = "model.layers.0.";
  const std::map<std::string, std::string> expected = {
      {"model.embed_tokens.weight", "[31, 20]"},
      {layer + "input_layernorm.weight", "[20]"},
      {layer + "self_attn.q_proj.weight", "[24, 20]"},
      {layer + "self_attn.q_proj.bias", "[24]"},
      {layer + "self_attn.k_proj.weight", "[12, 20]"},
      {layer + "self_attn.k_proj.bias", "[12]"},
      {layer + "self_attn.v_proj.weight", "[12, 20]"},
      {layer + "self_attn.v_proj.bias", "[12]"},
      {layer + "self_attn.o_proj.weight", "[20, 24]"},
      {layer + "self_attn.o_proj.bias", "[20]"},
      {layer + "post_attention_layernorm.weight", "[20]"},
      {layer + "mlp.gate_proj.weight", "[28, 20]"},
      {layer + "mlp.gate_proj.bias", "[28]"},
      {layer + "mlp.up_proj.weight", "[28, 20]"},
      {layer + "mlp.up_proj.bias", "[28]"},
      {layer + "mlp.down_proj.weight", "[20, 28]"},
      {layer + "mlp.down_proj.bias", "[20]"},
      {"model.norm.weight", "[20]"},
      {"lm_head.weight", "[31, 20]"}};
  EXPECT_EQ(shapes, expected);

  config.tied = true;
  config.attention_bias = config.mlp_bias = false;
  const Llama tied(config);
  EXPECT_EQ(tied->state_dict().size(), 11u);
  EXPECT_TRUE(tied->head().is_same(tied->state_dict()[0].second));
}

TEST(LlamaTest, ResidualIsThePlainCompositionOfItsLayers) {
  for (const bool tied : {false, true}) {
    torch::manual_seed(71);
    LlamaConfig config = small("residual");
    config.tied = tied;
    config.state = schemes::StateOptions{at::kDouble, 16};
    Llama model(config);
    model->to(at::kDouble);
    {
      const torch::NoGradGuard no_grad;
      for (Tensor& p : model->parameters()) p.add_(torch::randn_like(p), 0.2);
    }
    const Tensor tokens = torch::randint(31, {2, 7}), targets = torch::randint(31, {2, 7});

    std::map<std::string, Tensor> w;
    for (const auto& [name, tensor] : model->state_dict()) w[name] = tensor;
    const auto norm = [&](const Tensor& x, const std::string& name) {
      return x / (x.square().mean(-1, true) + config.eps).sqrt() * w.at(name + ".weight");
    };
    const auto linear = [&](const Tensor& x, const std::string& name) {
      return at::linear(x, w.at(name + ".weight"), w.at(name + ".bias"));
    };
    const Tensor angle = at::outer(at::arange(7, at::kDouble),
                                   nn::rotary_frequencies(config.rotary).to(at::kDouble));
    const auto heads = [&](const Tensor& x) { return x.view({2, 7, -1, 6}).transpose(1, 2); };
    const auto turned = [&](const Tensor& x) {
      const Tensor a = x.narrow(-1, 0, 3), b = x.narrow(-1, 3, 3);
      return at::cat({a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()}, -1);
    };
    Tensor x = at::embedding(w.at("model.embed_tokens.weight"), tokens);
    for (const std::string l : {"0", "1", "2"}) {
      const std::string at = "model.layers." + l, attn = at + ".self_attn.", mlp = at + ".mlp.";
      const Tensor n = norm(x, at + ".input_layernorm");
      const Tensor k = turned(heads(linear(n, attn + "k_proj"))).repeat_interleave(2, 1);
      const Tensor v = heads(linear(n, attn + "v_proj")).repeat_interleave(2, 1);
      const Tensor a = at::scaled_dot_product_attention(turned(heads(linear(n, attn + "q_proj"))),
                                                        k, v, {}, 0.0, true);
      x = x + linear(a.transpose(1, 2).reshape({2, 7, 24}), attn + "o_proj");
      const Tensor m = norm(x, at + ".post_attention_layernorm");
      x = x + linear(at::silu(linear(m, mlp + "gate_proj")) * linear(m, mlp + "up_proj"),
                     mlp + "down_proj");
    }
    const Tensor head = w.at(tied ? "model.embed_tokens.weight" : "lm_head.weight");
    const Tensor logits = norm(x, "model.norm").matmul(head.t());
    const Tensor loss = at::cross_entropy_loss(logits.flatten(0, 1), targets.flatten());

    // Values of size 1 to 10 in float64, sums of at most 31 terms through two dozen products.
    EXPECT_TRUE(at::allclose(model->forward(tokens), logits, 0, 1e-11));
    EXPECT_GT(logits.abs().max().item<double>(), 1);
    const auto grads = torch::autograd::grad({loss}, model->parameters());
    const Tensor ours = model->loss(tokens, targets);
    EXPECT_NEAR(ours.item<double>(), loss.item<double>(), 1e-11);
    ours.backward();
    size_t i = 0;
    for (const auto& [name, tensor] : model->state_dict()) {
      EXPECT_TRUE(at::allclose(tensor.grad(), grads[i++], 0, 1e-11)) << name;
    }
  }
}

class LlamaSchemeTest : public ::testing::TestWithParam<const char*> {};

TEST_P(LlamaSchemeTest, WhateverIsKeptGradientsAreTheSameBits) {
  const bool residual = std::string(GetParam()) == "residual";
  for (const bool bf16 : {false, true}) {
    std::vector<std::vector<Tensor>> all;
    for (const auto memory :
         {engine::Memory::Store, engine::Memory::Checkpoint, engine::Memory::Invert}) {
      if (residual && memory == engine::Memory::Invert) continue;
      torch::manual_seed(72);
      LlamaConfig config = small(GetParam());
      config.memory = memory;
      Llama model(config);
      const Tensor tokens = torch::randint(31, {2, 24}), targets = torch::randint(31, {2, 24});
      const base::AutocastGuard autocast({c10::kCPU, bf16, at::kBFloat16});
      const Tensor loss = model->loss(tokens, targets);
      EXPECT_NEAR(loss.item<double>(), std::log(31), 0.3);  // before training all are alike
      loss.backward();
      EXPECT_EQ(model->stack().take_report().rows_differing, 0);
      all.push_back({loss});
      for (const auto& [name, tensor] : model->state_dict()) {
        // A key's bias adds the same to all of a query's scores, but for the positions.
        EXPECT_GT(tensor.grad().abs().max().item<double>(), 0) << name;
        all.back().push_back(tensor.grad());
      }
    }
    for (const auto& other : all) {
      for (size_t i = 0; i < other.size(); ++i) EXPECT_TRUE(at::equal(other[i], all[0][i])) << i;
    }
  }
}

// Logits of the tokens, read in pieces of these sizes.
Tensor in_pieces(CausalLm& model, const Tensor& tokens, const std::vector<int64_t>& sizes) {
  const torch::NoGradGuard no_grad;
  nn::KeyValueCache cache;
  std::vector<Tensor> pieces;
  for (const int64_t n : sizes) {
    pieces.push_back(model.forward(tokens.narrow(1, cache.size(), n), &cache));
  }
  return at::cat(pieces, 1);
}

// Far from uniform, in float64 and with states in float64.
template <class Model, class Config>
Model wide(Config config) {
  torch::manual_seed(73);
  config.state = schemes::StateOptions{at::kDouble, 16};
  Model model(config);
  model->to(at::kDouble);
  model->eval();
  const torch::NoGradGuard no_grad;
  for (Tensor& p : model->parameters()) p.add_(torch::randn_like(p), 0.1);
  return model;
}

void expect_pieces_are_the_whole(CausalLm& model) {
  const torch::NoGradGuard no_grad;
  const Tensor tokens = torch::randint(model.vocab(), {2, 24});
  const Tensor whole = model.forward(tokens);
  EXPECT_GT(whole.std().item<double>(), 0.1);
  for (const std::vector<int64_t>& sizes :
       {std::vector<int64_t>{24}, {10, 1, 1, 1, 11}, {1, 1, 22}}) {
    // Values of size 1 to 10 in float64, sums of at most 64 terms through two dozen products.
    EXPECT_TRUE(at::allclose(in_pieces(model, tokens, sizes), whole, 0, 1e-11));
  }
}

TEST_P(LlamaSchemeTest, WithACachePiecesOfATextAreTheWhole) {
  expect_pieces_are_the_whole(*wide<Llama>(small(GetParam())));
}

INSTANTIATE_TEST_SUITE_P(All, LlamaSchemeTest,
                         ::testing::Values("residual", "midpoint", "midpoint-a", "leapfrog",
                                           "hamiltonian", "retrofit"),
                         [](const auto& test) {
                           std::string name = test.param;
                           if (name == "midpoint-a") name = "midpoint_a";
                           return name;
                         });

TEST(Gpt2CacheTest, PiecesOfATextAreTheWholeUnderEveryScheme) {
  for (const std::string& scheme : scheme_names()) {
    Gpt2Config config;
    config.layers = 3;
    config.heads = 2;
    config.channels = 16;
    config.seq = 24;
    config.vocab = 31;
    config.dropout = 0.5;
    config.scheme = scheme;
    expect_pieces_are_the_whole(*wide<Gpt2>(config));
  }
}

TEST(LlamaTest, NamesWhatACacheIsNotFor) {
  Llama model(small("midpoint"));
  const Tensor tokens = torch::zeros({1, 20}, at::kLong);
  nn::KeyValueCache cache;
  EXPECT_THROW_WITH(model->forward(tokens, &cache), "the model is in training");
  model->eval();
  EXPECT_THROW_WITH(model->forward(tokens, &cache), "gradients are on");
  const torch::NoGradGuard no_grad;
  model->forward(tokens, &cache);
  EXPECT_THROW_WITH(model->forward(tokens, &cache), "expected [B,T] with T at most 4");
  EXPECT_EQ(cache.size(), 20);
}

TEST(LlamaTest, TakesOlderCheckpointsAndATiedHeadThatIsTheTable) {
  LlamaConfig config = small("residual");
  config.tied = true;
  const Llama from(config);
  Llama to(config);
  base::NamedTensors tensors = from->state_dict();
  tensors.emplace_back("model.layers.0.self_attn.rotary_emb.inv_freq", torch::ones({3}));
  tensors.emplace_back("lm_head.weight", from->state_dict()[0].second.clone());
  to->load_state_dict(tensors);
  const auto a = from->state_dict(), b = to->state_dict();
  for (size_t i = 0; i < a.size(); ++i) {
    EXPECT_TRUE(at::equal(a[i].second, b[i].second)) << a[i].first;
  }
  tensors.back().second = torch::ones({31, 20});
  EXPECT_THROW_WITH((to->load_state_dict(tensors), 0),
                    "llama: lm_head.weight differs from model.embed_tokens.weight");
}

TEST(LlamaTest, NamesTensorsThatDoNotFitAndTooManyTokens) {
  Llama model(small("midpoint"));
  base::NamedTensors tensors = model->state_dict();
  tensors.pop_back();
  EXPECT_THROW_WITH((model->load_state_dict(tensors), 0), "llama: missing lm_head.weight");
  EXPECT_THROW_WITH(model->forward(torch::zeros({1, 25}, at::kLong)),
                    "llama: tokens are [1, 25], expected [B,T] with T at most 24");
  EXPECT_THROW_WITH(Llama(small("revffn")), "revffn splits the channels in two");
}

}  // namespace
}  // namespace rev::models
