#include "rev/nn/embedding.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "support/gradcheck.h"
#include "support/throws.h"

namespace rev::nn {
namespace {

using at::Tensor;

TEST(EmbeddingTest, AddsATokensVectorAndItsPositions) {
  torch::manual_seed(21);
  const Tensor wte = support::leaf({5, 3}), wpe = support::leaf({4, 3});
  const Tensor tokens = torch::tensor({{1, 1, 4}, {0, 2, 1}});
  const Tensor x = embed(tokens, wte, wpe);
  for (int64_t b = 0; b < 2; ++b) {
    for (int64_t t = 0; t < 3; ++t) {
      EXPECT_TRUE(at::equal(x[b][t], wte[tokens[b][t].item<int64_t>()] + wpe[t]));
    }
  }
  EXPECT_LT(support::gradient_error([&] { return embed(tokens, wte, wpe); }, {wte, wpe}),
            support::kGradientTolerance);
}

TEST(EmbeddingTest, GradientsOfRowsAreThoseOfTorch) {
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    torch::manual_seed(27);
    const Tensor ours = support::leaf({9, 33}, dtype), theirs = ours.detach().requires_grad_();
    const Tensor index = torch::tensor({{1, 8, 1}, {0, 2, 1}});
    Embedding table(9, 33);
    table->weight = ours;
    const Tensor y = table->forward(index), expected = at::embedding(theirs, index);
    EXPECT_TRUE(at::equal(y, expected));
    const Tensor g = torch::randn({2, 3, 33}).to(dtype);
    y.backward(g);
    expected.backward(g);
    // A sum of three terms below 4, in float32, or in bfloat16: two roundings of 8, or of one.
    const double unit = dtype == at::kFloat ? 0x1p-24 : 0x1p-8;
    EXPECT_TRUE(at::allclose(ours.grad(), theirs.grad(), 0, 24 * unit));
    EXPECT_EQ(ours.grad().scalar_type(), dtype);
  }
}

TEST(EmbeddingTest, RefusesASecondDerivative) {
  const Tensor w = support::leaf({4, 2}, at::kFloat);
  const Tensor y = take_rows(w, torch::tensor({1, 2})).square().sum();
  EXPECT_THROW_WITH(torch::autograd::grad({y}, {w}, {}, true, true),
                    "take_rows: a second derivative is not supported");
}

TEST(EmbeddingTest, RefusesMoreTokensThanPositions) {
  EXPECT_THROW_WITH(
      embed(torch::zeros({1, 5}, at::kLong), torch::ones({2, 3}), torch::ones({4, 3})),
      "T at most 4");
}

}  // namespace
}  // namespace rev::nn
