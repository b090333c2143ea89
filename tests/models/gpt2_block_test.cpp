#include "models/gpt2_block.h"

#include <cmath>
#include <gtest/gtest.h>
#include <limits>
#include <map>
#include <string>
#include <torch/torch.h>

#include "rev/base/autocast_state.h"

namespace rev::models {
namespace {

using at::Tensor;

struct Case {
  std::string scheme;
  double dropout;
  bool bias, bf16;
};

class BlockFieldTest : public ::testing::TestWithParam<Case> {};

TEST_P(BlockFieldTest, WithoutItsValueGradientsAreTheSameBits) {
  const Case& c = GetParam();
  const base::AutocastGuard autocast({c10::kCPU, c.bf16, at::kBFloat16});
  torch::manual_seed(41);
  Gpt2Config config;
  config.layers = 2;
  config.heads = 4;
  config.channels = 32;
  config.dropout = c.dropout;
  config.bias = c.bias;
  config.scheme = c.scheme;
  const Block block(config);
  const auto fields = make_fields(block, c.scheme);
  const int64_t width = c.scheme == "revffn" ? 16 : 32;
  for (size_t k = 0; k < fields.size(); ++k) {
    const std::vector<Tensor> x(c.scheme == "revffn" && k == 0 ? 2 : 1,
                                torch::randn({2, 9, width}));
    const Tensor g = torch::randn({2, 9, width});
    torch::manual_seed(42);
    const Tensor value = fields[k]->forward(x);
    torch::manual_seed(42);
    const engine::Linearised with = fields[k]->linearise(x, true);
    torch::manual_seed(42);
    const engine::Linearised without = fields[k]->linearise(x, false);

    EXPECT_TRUE(at::equal(with.value, value));
    EXPECT_EQ(without.value.sizes(), value.sizes());
    EXPECT_EQ(without.value.scalar_type(), value.scalar_type());
    // RevFFN's first field is in float32: see nn::CrossAttention.
    const bool in_bf16 = c.bf16 && !(c.scheme == "revffn" && k == 0);
    EXPECT_EQ(value.scalar_type(), in_bf16 ? at::kBFloat16 : at::kFloat) << "field " << k;
    const auto a = with.pullback(g, false), b = without.pullback(g, false);
    ASSERT_EQ(a.size(), x.size() + fields[k]->parameters().size());
    for (size_t i = 0; i < a.size(); ++i) {
      EXPECT_TRUE(at::equal(a[i], b[i])) << "field " << k << ", gradient " << i;
      EXPECT_GT(a[i].abs().max().item<double>(), 0) << "field " << k << ", gradient " << i;
    }
  }
}

std::vector<Case> cases() {
  std::vector<Case> all;
  for (const char* scheme : {"midpoint", "hamiltonian", "revffn"}) {
    for (const double dropout : {0.0, 0.1}) {
      for (const bool bias : {true, false}) {
        for (const bool bf16 : {false, true}) all.push_back({scheme, dropout, bias, bf16});
      }
    }
  }
  return all;
}

INSTANTIATE_TEST_SUITE_P(All, BlockFieldTest, ::testing::ValuesIn(cases()), [](const auto& test) {
  const Case& c = test.param;
  return c.scheme + (c.dropout > 0 ? "_dropout" : "") + (c.bias ? "_bias" : "") +
         (c.bf16 ? "_bf16" : "");
});

// The layer's formulas in float64, from its parameters by name; H = 4, C = 32.
struct Plain {
  std::map<std::string, Tensor> w;

  explicit Plain(const Block& block) {
    for (const auto& named : block->named_parameters()) w[named.key()] = named.value();
  }

  Tensor norm(const Tensor& x, const std::string& name) const {
    const Tensor d = x - x.mean(-1, true);
    return d / (d.square().mean(-1, true) + 1e-5).sqrt() * w.at(name + ".weight") +
           w.at(name + ".bias");
  }
  Tensor linear(const Tensor& x, const std::string& name) const {
    return x.matmul(w.at(name + ".weight")) + w.at(name + ".bias");
  }
  Tensor attention(const Tensor& for_q, const Tensor& for_kv) const {
    const int64_t n_tokens = for_q.size(1);
    const auto head = [&](const Tensor& x, int64_t part) {  // [B,T,C] -> [B,H,T,D]
      const Tensor all = linear(x, "attn.c_attn").narrow(-1, 32 * part, 32);
      return all.view({-1, n_tokens, 4, 8}).transpose(1, 2);
    };
    const Tensor later = at::ones({n_tokens, n_tokens}, at::kBool).triu(1);
    const Tensor scores = head(for_q, 0).matmul(head(for_kv, 1).mT()) / std::sqrt(8.0);
    const Tensor weights =
        scores.masked_fill(later, -std::numeric_limits<double>::infinity()).softmax(-1);
    const Tensor values = weights.matmul(head(for_kv, 2));
    return linear(values.transpose(1, 2).reshape({-1, n_tokens, 32}), "attn.c_proj");
  }
  Tensor mlp(const Tensor& x) const {
    const Tensor u = linear(x, "mlp.c_fc");
    const Tensor gelu = 0.5 * u * (1 + (std::sqrt(2 / M_PI) * (u + 0.044715 * u.pow(3))).tanh());
    return linear(gelu, "mlp.c_proj");
  }
};

Block random_block(const std::string& scheme, double dropout = 0) {
  torch::manual_seed(45);
  Gpt2Config config;
  config.heads = 4;
  config.channels = 32;
  config.scheme = scheme;
  config.dropout = dropout;
  Block block(config);
  block->to(at::kDouble);
  const torch::NoGradGuard no_grad;
  for (Tensor& p : block->parameters()) p.normal_(0, 0.2);
  return block;
}

Tensor random_state(int64_t width) { return torch::randn({2, 5, width}, at::kDouble); }

void expect_close(const Tensor& ours, const Tensor& expected) {
  // Sums of at most 128 terms in float64 whose partial sums stay below 4, taken in two orders, five
  // of them in a row.
  EXPECT_TRUE(at::allclose(ours, expected, 0, 5 * 2 * 128 * 4 * std::pow(2.0, -53)));
  EXPECT_GT(expected.abs().max().item<double>(), 0.5);
}

TEST(BlockTest, HamiltonianCouplesAttentionAndMlp) {
  const Block block = random_block("hamiltonian");
  const Plain plain(block);
  const auto fields = make_fields(block, "hamiltonian");
  ASSERT_EQ(fields.size(), 2u);
  const Tensor x = random_state(32);

  const Tensor n = plain.norm(x, "ln_1");
  expect_close(fields[0]->forward({x}), plain.attention(n, n));
  expect_close(fields[1]->forward({x}), plain.mlp(plain.norm(x, "ln_2")));
}

TEST(BlockTest, RevffnCouplesCrossAttentionAndMlpBetweenItsAdapters) {
  const Block block = random_block("revffn");
  const Plain plain(block);
  const auto fields = make_fields(block, "revffn");
  ASSERT_EQ(fields.size(), 2u);
  const Tensor x1 = random_state(16), x2 = random_state(16);
  const Tensor &up = plain.w.at("p_up.weight"), &down = plain.w.at("p_down.weight");

  const Tensor for_q = plain.norm(x1.matmul(up), "ln_1");
  const Tensor for_kv = plain.norm(x2.matmul(up), "ln_1");
  expect_close(fields[0]->forward({x1, x2}), plain.attention(for_q, for_kv).matmul(down));
  const Tensor n = plain.norm(x1.matmul(up), "ln_2");
  expect_close(fields[1]->forward({x1}), plain.mlp(n).matmul(down));
}

TEST(BlockTest, TheOthersAreTheWholeLayerWithoutItsSkip) {
  const Block block = random_block("midpoint");
  const Plain plain(block);
  const auto fields = make_fields(block, "midpoint");
  ASSERT_EQ(fields.size(), 1u);
  const Tensor x = random_state(32);

  const Tensor n = plain.norm(x, "ln_1");
  const Tensor a = plain.attention(n, n);
  expect_close(fields[0]->forward({x}), a + plain.mlp(plain.norm(x + a, "ln_2")));
}

TEST(BlockTest, CrossFieldsTokenMapIsItsForward) {
  const torch::NoGradGuard no_grad;
  const engine::FieldPtr f = make_fields(random_block("revffn", 0.1), "revffn")[0];
  const Tensor x1 = random_state(16), x2 = random_state(16);
  torch::manual_seed(44);
  const Tensor value = f->forward({x1, x2}).view({10, 16});
  torch::manual_seed(44);
  const Tensor index = torch::tensor({7, 2, 3});
  const Tensor rows = f->token_map(x1, x2)(x1.view({10, 16}).index_select(0, index), index);
  // Sums of at most 32 terms of size 1 in float64, four products in a row: 1e-15 * 1000.
  EXPECT_TRUE(at::allclose(rows, value.index_select(0, index), 0, 1e-12));
}

}  // namespace
}  // namespace rev::models
