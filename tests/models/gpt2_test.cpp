#include "rev/models/gpt2.h"

#include <cmath>
#include <gtest/gtest.h>
#include <set>
#include <string>
#include <torch/torch.h>

#include "models/gpt2_block.h"
#include "rev/base/memory_stats.h"
#include "support/throws.h"

namespace rev::models {
namespace {

using at::Tensor;

Gpt2Config small(const std::string& scheme) {
  Gpt2Config config;
  config.layers = 3;
  config.heads = 2;
  config.channels = 16;
  config.seq = 12;
  config.vocab = 31;
  config.scheme = scheme;
  config.memory = scheme == "residual" ? engine::Memory::Store : engine::Memory::Invert;
  return config;
}

TEST(Gpt2Test, HasHuggingFacesNamesAndShapes) {
  Gpt2Config config = small("midpoint");
  config.layers = 1;
  const Gpt2 model(config);
  std::string text;
  for (const auto& [name, tensor] : model->state_dict())
    text += c10::str(name, tensor.sizes(), "\n");
  EXPECT_EQ(text,
            "transformer.wte.weight[31, 16]\n"
            "transformer.wpe.weight[12, 16]\n"
            "transformer.h.0.ln_1.weight[16]\n"
            "transformer.h.0.ln_1.bias[16]\n"
            "transformer.h.0.attn.c_attn.weight[16, 48]\n"
            "transformer.h.0.attn.c_attn.bias[48]\n"
            "transformer.h.0.attn.c_proj.weight[16, 16]\n"
            "transformer.h.0.attn.c_proj.bias[16]\n"
            "transformer.h.0.ln_2.weight[16]\n"
            "transformer.h.0.ln_2.bias[16]\n"
            "transformer.h.0.mlp.c_fc.weight[16, 64]\n"
            "transformer.h.0.mlp.c_fc.bias[64]\n"
            "transformer.h.0.mlp.c_proj.weight[64, 16]\n"
            "transformer.h.0.mlp.c_proj.bias[16]\n"
            "transformer.ln_f.weight[16]\n"
            "transformer.ln_f.bias[16]\n");
}

TEST(Gpt2Test, KeepsWhatItsSchemeCanUnlessToldOtherwise) {
  for (const std::string& scheme : scheme_names()) {
    Gpt2Config config = small(scheme);
    config.memory.reset();
    Gpt2 model(config);
    const auto expected = scheme == "residual" ? engine::Memory::Store : engine::Memory::Invert;
    EXPECT_EQ(model->config().memory, expected) << scheme;
    EXPECT_EQ(model->stack().memory(0), expected) << scheme;
    config.memory = engine::Memory::Checkpoint;
    EXPECT_EQ(Gpt2(config)->stack().memory(0), engine::Memory::Checkpoint) << scheme;
  }
}

TEST(Gpt2Test, LogitsAreNeverWholeUnderAnyPolicy) {
  base::count_memory();
  using engine::Memory;
  for (const Memory memory : {Memory::Store, Memory::Checkpoint, Memory::Invert}) {
    Gpt2Config config = small("midpoint");
    config.layers = 1;
    config.seq = 64;
    config.vocab = 8192;
    config.memory = memory;
    Gpt2 model(config);
    const Tensor tokens = torch::randint(config.vocab, {64, config.seq});
    const int64_t before = base::memory_stats().live_bytes;
    base::reset_peak_memory();
    model->loss(tokens, tokens).backward();
    EXPECT_LT(base::memory_stats().peak_bytes - before, 4 * tokens.numel() * config.vocab);
  }
}

TEST(Gpt2Test, WithoutBiasHasNone) {
  Gpt2Config config = small("revffn");
  config.bias = false;
  const Gpt2 model(config);
  std::set<std::string> names;
  for (const auto& named : model->state_dict()) names.insert(named.first);
  EXPECT_EQ(names.count("transformer.h.2.p_up.weight"), 1u);
  EXPECT_EQ(names.count("transformer.h.2.p_down.weight"), 1u);
  for (const std::string& name : names) EXPECT_EQ(name.find("bias"), std::string::npos) << name;
}

TEST(Gpt2Test, ResidualIsThePlainCompositionOfItsBlocks) {
  torch::manual_seed(51);
  Gpt2Config config = small("residual");
  config.state = schemes::StateOptions{at::kDouble, 16};
  Gpt2 model(config);
  model->to(at::kDouble);
  const Tensor tokens = torch::randint(31, {2, 7}), targets = torch::randint(31, {2, 7});

  std::map<std::string, Tensor> w;
  for (const auto& [name, tensor] : model->state_dict()) w[name] = tensor;
  const auto norm = [&](const Tensor& x, const std::string& name) {
    return at::layer_norm(x, {16}, w.at(name + ".weight"), w.at(name + ".bias"));
  };
  const auto linear = [&](const Tensor& x, const std::string& name) {
    return x.matmul(w.at(name + ".weight")) + w.at(name + ".bias");
  };
  Tensor x = at::embedding(w.at("transformer.wte.weight"), tokens) +
             w.at("transformer.wpe.weight").narrow(0, 0, 7);
  for (const std::string l : {"0", "1", "2"}) {
    const std::string h = "transformer.h." + l;
    const auto qkv = linear(norm(x, h + ".ln_1"), h + ".attn.c_attn").chunk(3, -1);
    const auto heads = [](const Tensor& t) { return t.view({2, 7, 2, 8}).transpose(1, 2); };
    const Tensor a = at::scaled_dot_product_attention(heads(qkv[0]), heads(qkv[1]), heads(qkv[2]),
                                                      {}, 0.0, true);
    x = x + linear(a.transpose(1, 2).reshape({2, 7, 16}), h + ".attn.c_proj");
    const Tensor m = at::gelu(linear(norm(x, h + ".ln_2"), h + ".mlp.c_fc"), "tanh");
    x = x + linear(m, h + ".mlp.c_proj");
  }
  const Tensor logits = norm(x, "transformer.ln_f").matmul(w.at("transformer.wte.weight").t());
  const Tensor loss = at::cross_entropy_loss(logits.flatten(0, 1), targets.flatten());

  // Values of size 1 in float64, sums of at most 64 terms through a dozen products: 1e-16 * 10000.
  EXPECT_TRUE(at::allclose(model->forward(tokens), logits, 0, 1e-12));
  const auto grads = torch::autograd::grad({loss}, model->parameters());
  const Tensor ours = model->loss(tokens, targets);
  EXPECT_NEAR(ours.item<double>(), loss.item<double>(), 1e-12);
  ours.backward();
  size_t i = 0;
  for (const auto& [name, tensor] : model->state_dict()) {
    EXPECT_TRUE(at::allclose(tensor.grad(), grads[i++], 0, 1e-12)) << name;
  }
}

class Gpt2SchemeTest : public ::testing::TestWithParam<const char*> {};

TEST_P(Gpt2SchemeTest, LossIsCrossEntropyOfTheLogitsAndReachesEveryParameter) {
  torch::manual_seed(52);
  Gpt2 model(small(GetParam()));
  const Tensor tokens = torch::randint(31, {2, 12}), targets = torch::randint(31, {2, 12});
  const Tensor logits = model->forward(tokens);
  EXPECT_EQ(logits.sizes(), at::IntArrayRef({2, 12, 31}));
  // Sums of 16 terms in two orders; their sizes sum to at most 0.5, the product of the norms of a
  // normed token, 4, and of a row of the table, 0.02 * 4 or little more: 2 * 16 * 0.5 * 2^-24.
  EXPECT_TRUE(at::allclose(model->next(tokens), logits.select(1, -1), 0, 16 * std::pow(2.0, -24)));
  const Tensor expected = at::cross_entropy_loss(logits.flatten(0, 1), targets.flatten());
  const Tensor loss = model->loss(tokens, targets);
  // A loss of 3.4 in float32, a mean of 24 values: 4 * 24 * 2^-24.
  EXPECT_NEAR(loss.item<double>(), expected.item<double>(), 4 * 24 * std::pow(2.0, -24));
  EXPECT_NEAR(loss.item<double>(), std::log(31), 0.2);  // before training all tokens are alike
  loss.backward();
  for (const auto& [name, tensor] : model->state_dict()) {
    ASSERT_TRUE(tensor.grad().defined()) << name;
    EXPECT_GT(tensor.grad().abs().max().item<double>(), 0) << name;
  }
}

TEST_P(Gpt2SchemeTest, SameSeedGivesTheSameBits) {
  const auto run = [&] {
    torch::manual_seed(53);
    Gpt2Config config = small(GetParam());
    config.dropout = 0.1;
    Gpt2 model(config);
    const Tensor tokens = torch::randint(31, {2, 12});
    const Tensor loss = model->loss(tokens, tokens);
    loss.backward();
    std::vector<Tensor> all{loss};
    for (const Tensor& p : model->parameters()) all.push_back(p.grad());
    return all;
  };
  const auto a = run(), b = run();
  for (size_t i = 0; i < a.size(); ++i) EXPECT_TRUE(at::equal(a[i], b[i])) << i;
}

INSTANTIATE_TEST_SUITE_P(All, Gpt2SchemeTest,
                         ::testing::Values("residual", "midpoint", "midpoint-a", "leapfrog",
                                           "hamiltonian", "revffn", "retrofit"),
                         [](const auto& test) {
                           std::string name = test.param;
                           if (name == "midpoint-a") name = "midpoint_a";
                           return name;
                         });

TEST(Gpt2StateDictTest, ReturnsWithAndWithoutThePrefix) {
  const Gpt2 from(small("residual"));
  Gpt2 to(small("residual"));
  base::NamedTensors bare;
  for (const auto& [name, tensor] : from->state_dict()) bare.emplace_back(name.substr(12), tensor);
  bare.emplace_back("h.0.attn.bias", torch::ones({1, 1, 12, 12}));
  bare.emplace_back("h.0.attn.masked_bias", torch::tensor(-1e4));
  bare.emplace_back("lm_head.weight", from->state_dict()[0].second);
  to->load_state_dict(bare);
  const auto a = from->state_dict(), b = to->state_dict();
  for (size_t i = 0; i < a.size(); ++i)
    EXPECT_TRUE(at::equal(a[i].second, b[i].second)) << a[i].first;
}

TEST(Gpt2StateDictTest, NamesEveryTensorThatDoesNotFitAndChangesNothing) {
  Gpt2 model(small("residual"));
  const Tensor before = model->state_dict()[0].second.clone();
  base::NamedTensors tensors;
  for (const auto& [name, tensor] : model->state_dict()) {
    tensors.emplace_back(name, torch::ones_like(tensor));
  }
  tensors.erase(tensors.begin() + 3);
  tensors[1].second = torch::ones({5, 16});
  tensors.emplace_back("h.9.ln_1.bias", torch::ones({16}));
  EXPECT_THROW_WITH((model->load_state_dict(tensors), 0),
                    "gpt2: missing transformer.h.0.ln_1.bias; unexpected "
                    "transformer.h.9.ln_1.bias; of the wrong shape transformer.wpe.weight ([5, 16] "
                    "for [12, 16])");
  EXPECT_TRUE(at::equal(model->state_dict()[0].second, before));
}

TEST(Gpt2StateDictTest, RefusesAHeadThatIsNotTied) {
  Gpt2 model(small("residual"));
  base::NamedTensors tensors = model->state_dict();
  tensors.emplace_back("lm_head.weight", torch::ones({31, 16}));
  EXPECT_THROW_WITH((model->load_state_dict(tensors), 0), "lm_head.weight differs");
}

TEST(Gpt2Test, NamesTooManyTokensAndTargetsOfAnotherShape) {
  Gpt2 model(small("midpoint"));
  EXPECT_THROW_WITH(model->forward(torch::zeros({1, 13}, at::kLong)), "T at most 12");
  EXPECT_THROW_WITH(model->loss(torch::zeros({1, 3}, at::kLong), torch::zeros({1, 4}, at::kLong)),
                    "loss: tokens are [1, 3] but targets [1, 4]");
}

}  // namespace
}  // namespace rev::models
