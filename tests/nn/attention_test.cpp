#include "rev/nn/attention.h"

#include <cmath>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "support/gradcheck.h"
#include "support/throws.h"

namespace rev::nn {
namespace {

using at::Tensor;

// Attn(x) in float64, token by token and head by head.
Tensor reference(Attention& attention, const Tensor& x, int64_t heads) {
  const int64_t n_batch = x.size(0), n_tokens = x.size(1), c = x.size(2), d = c / heads;
  const Tensor qkv = x.matmul(attention->c_attn->weight) + attention->c_attn->bias;
  Tensor merged = torch::zeros_like(x);
  for (int64_t b = 0; b < n_batch; ++b) {
    for (int64_t h = 0; h < heads; ++h) {
      for (int64_t t = 0; t < n_tokens; ++t) {
        const Tensor q = qkv[b][t].narrow(0, h * d, d);
        const Tensor k = qkv[b].narrow(0, 0, t + 1).narrow(1, c + h * d, d);
        const Tensor v = qkv[b].narrow(0, 0, t + 1).narrow(1, 2 * c + h * d, d);
        const Tensor w = torch::softmax(k.matmul(q) / std::sqrt(static_cast<double>(d)), 0);
        merged[b][t].narrow(0, h * d, d).copy_(w.matmul(v));
      }
    }
  }
  return merged.matmul(attention->c_proj->weight) + attention->c_proj->bias;
}

Attention attention64(double dropout) {
  torch::manual_seed(7);
  Attention attention(AttentionOptions{8, 2, dropout});
  attention->to(at::kDouble);
  const torch::NoGradGuard no_grad;
  for (Tensor& p : attention->parameters()) p.normal_(0, 0.5);
  return attention;
}

TEST(AttentionTest, IsTheFormula) {
  Attention attention = attention64(0);
  const torch::NoGradGuard no_grad;
  const Tensor x = torch::randn({2, 5, 8}, at::kDouble);
  // Sums of at most 8 terms of size 1 in float64, through three products: 1e-15 * 100.
  EXPECT_TRUE(at::allclose(attention->forward(x), reference(attention, x, 2), 0, 1e-13));
}

TEST(AttentionTest, DropoutsOwnPathIsTheSameFunctionWhereNothingIsDropped) {
  torch::manual_seed(8);
  const Tensor q = torch::randn({2, 3, 9, 4}, at::kDouble), k = torch::randn_like(q),
               v = torch::randn_like(q);
  // A probability of 1e-15 scales by 1 + 1e-15 and drops nothing in 500 draws; sums as above.
  EXPECT_TRUE(at::allclose(causal_attention(q, k, v, 1e-15), causal_attention(q, k, v), 0, 1e-13));
}

TEST(AttentionTest, GradientsAreThoseOfDifferences) {
  for (const double dropout : {0.0, 0.3}) {
    Attention attention = attention64(dropout);
    const Tensor x = support::leaf({2, 4, 8});
    std::vector<Tensor> inputs = attention->parameters();
    inputs.push_back(x);
    const auto f = [&] {
      torch::manual_seed(9);
      return attention->forward(x);
    };
    EXPECT_LT(support::gradient_error(f, inputs), support::kGradientTolerance) << dropout;
  }
}

TEST(AttentionTest, DropoutActsInTrainingOnly) {
  Attention attention = attention64(0.5);
  const torch::NoGradGuard no_grad;
  const Tensor x = torch::randn({1, 4, 8}, at::kDouble);
  EXPECT_FALSE(at::equal(attention->forward(x), attention->forward(x)));
  attention->eval();
  EXPECT_TRUE(at::equal(attention->forward(x), attention->forward(x)));
}

TEST(AttentionTest, RefusesHeadsThatDoNotDivide) {
  EXPECT_THROW_WITH(Attention(AttentionOptions{10, 4}), "4 heads do not divide 10 channels");
}

}  // namespace
}  // namespace rev::nn
