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

TEST(EmbeddingTest, RefusesMoreTokensThanPositions) {
  EXPECT_THROW_WITH(
      embed(torch::zeros({1, 5}, at::kLong), torch::ones({2, 3}), torch::ones({4, 3})),
      "T at most 4");
}

}  // namespace
}  // namespace rev::nn
