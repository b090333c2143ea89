#include "models/gpt2_block.h"

#include <gtest/gtest.h>
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

TEST(BlockTest, CrossFieldsTokenMapIsItsForward) {
  torch::manual_seed(43);
  Gpt2Config config;
  config.heads = 4;
  config.channels = 32;
  config.scheme = "revffn";
  config.dropout = 0.1;
  Block block(config);
  block->to(at::kDouble);
  const torch::NoGradGuard no_grad;
  for (Tensor& p : block->parameters()) p.normal_(0, 0.2);
  const engine::FieldPtr f = make_fields(block, "revffn")[0];
  const Tensor x1 = torch::randn({2, 5, 16}, at::kDouble), x2 = torch::randn_like(x1);
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
