#include "rev/kernels/embedding.h"

#include <ATen/Parallel.h>
#include <cmath>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "support/throws.h"

namespace rev::kernels {
namespace {

using at::Tensor;

TEST(EmbeddingBackwardTest, SumsTheRowsOfEachTokenAsFloat64Does) {
  torch::manual_seed(91);
  for (const auto grad_dtype : {at::kFloat, at::kBFloat16}) {
    for (const auto dtype : {at::kFloat, at::kBFloat16}) {
      for (const auto& shape : std::vector<std::vector<int64_t>>{
               {0, 4}, {1, 1}, {7, 3}, {2, 50, 33}, {300, 257}, {4, 5, 6, 1025}}) {
        const Tensor grad = torch::randn(shape).to(grad_dtype);
        const at::IntArrayRef leading = grad.sizes().slice(0, grad.dim() - 1);
        const Tensor tokens = torch::randint(11, leading, at::kLong);
        const Tensor got = embedding_backward(grad, tokens, 13, dtype);
        const Tensor exact =
            at::zeros({13, shape.back()}, at::kDouble)
                .index_add_(0, tokens.view(-1), grad.to(at::kDouble).view({-1, shape.back()}));
        // At most 300 terms below 5, of which a sum has about 30: each addition rounds to 2^-24 of
        // a sum below 40; then bfloat16's rounding, 2^-8 of itself.
        const double relative = dtype == at::kBFloat16 ? std::pow(2.0, -8) : 0;
        EXPECT_TRUE(
            at::allclose(got.to(at::kDouble), exact, relative, 60 * 40 * std::pow(2.0, -24)))
            << grad.sizes() << grad_dtype << dtype;
        EXPECT_EQ(got.scalar_type(), dtype);
        EXPECT_EQ(got.slice(0, 11).abs().sum().item<float>(), 0);  // tokens that never come
      }
    }
  }
}

TEST(EmbeddingBackwardTest, AddsInTheOrderOfTokens) {
  // In another order 1 would be lost, or would not.
  const Tensor grad = torch::tensor({{0x1p24f}, {1.0f}, {-0x1p24f}, {1.0f}});
  EXPECT_EQ(embedding_backward(grad, torch::zeros({4}, at::kLong), 1, at::kFloat).item<float>(), 1);
}

TEST(EmbeddingBackwardTest, BitsDoNotDependOnTheNumberOfThreads) {
  torch::manual_seed(92);
  const Tensor grad = torch::randn({3000, 64}), tokens = torch::randint(17, {3000}, at::kLong);
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  const Tensor one = embedding_backward(grad, tokens, 17, at::kFloat);
  at::set_num_threads(2);
  const Tensor two = embedding_backward(grad, tokens, 17, at::kFloat);
  at::set_num_threads(threads);
  EXPECT_TRUE(at::equal(one, two));
}

TEST(EmbeddingBackwardTest, ReadsViews) {
  torch::manual_seed(93);
  const Tensor grad = torch::randn({6, 8}).t(), tokens = torch::randint(3, {16}, at::kLong);
  const Tensor every_other = tokens.slice(0, 0, 16, 2);
  EXPECT_TRUE(
      at::equal(embedding_backward(grad, every_other, 3, at::kFloat),
                embedding_backward(grad.contiguous(), every_other.contiguous(), 3, at::kFloat)));
}

// Kernels could not tell the host.
TEST(EmbeddingBackwardTest, TokensAreCheckedOnTheCpu) {
  const Tensor grad = torch::ones({2, 3}), tokens = torch::tensor({0, 4});
  EXPECT_THROW_WITH(embedding_backward(grad, tokens, 4, at::kFloat),
                    "token 1 is 4, expected 0 to 3");
  EXPECT_THROW_WITH(embedding_backward(grad, -tokens, 4, at::kFloat), "token 1 is -4");
}

TEST(EmbeddingBackwardTest, RefusesWhatDoesNotFit) {
  const Tensor grad = torch::ones({2, 3}), tokens = torch::tensor({0, 4});
  EXPECT_THROW_WITH(embedding_backward(grad, torch::tensor({0}), 4, at::kFloat),
                    "grad is [2, 3] and tokens are Long [1]");
  EXPECT_THROW_WITH(embedding_backward(grad.to(at::kDouble), tokens, 5, at::kFloat),
                    "float32 or bfloat16, got Double");
}

}  // namespace
}  // namespace rev::kernels
