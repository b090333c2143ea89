#include "rev/nn/linear_cross_entropy.h"

#include <cmath>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "rev/base/autocast_state.h"
#include "support/gradcheck.h"
#include "support/throws.h"

namespace rev::nn {
namespace {

using at::Tensor;
using support::leaf;

Tensor plain(const Tensor& x, const Tensor& w, const Tensor& targets, double z_loss = 0) {
  const Tensor logits = x.matmul(w.t()), kept = targets.ne(kIgnoreIndex);
  return at::cross_entropy_loss(logits, targets, {}, at::Reduction::Mean, kIgnoreIndex) +
         z_loss * logits.logsumexp(1).masked_select(kept).square().mean();
}

TEST(LinearCrossEntropyTest, IsPlainCrossEntropyAndItsGradients) {
  torch::manual_seed(17);
  const Tensor x = leaf({10, 6}), w = leaf({7, 6});
  Tensor targets = torch::randint(7, {10});
  targets[3] = kIgnoreIndex;
  targets[9] = kIgnoreIndex;
  for (const double z_loss : {0.0, 0.05}) {
    const Tensor expected = plain(x, w, targets, z_loss);
    const auto grads = torch::autograd::grad({expected * 3}, {x, w});
    for (const int64_t chunk : {1, 3, 5, 10, 64}) {
      const Tensor loss = linear_cross_entropy(x, w, targets, chunk, z_loss);
      const auto ours = torch::autograd::grad({loss * 3}, {x, w});
      // Values of size 1 to 3, sums of at most 10 terms in float64 in another order: 1e-15 * 10.
      EXPECT_NEAR(loss.item<double>(), expected.item<double>(), 1e-14) << chunk;
      for (size_t i = 0; i < 2; ++i) {
        EXPECT_TRUE(at::allclose(ours[i], grads[i], 0, 1e-14)) << chunk;
      }
    }
  }
}

TEST(LinearCrossEntropyTest, InFloat32ItIsTheSameToItsRounding) {
  torch::manual_seed(21);
  const Tensor x = leaf({40, 12}, at::kFloat), w = leaf({1100, 12}, at::kFloat);
  Tensor targets = torch::randint(1100, {40});
  targets[3] = kIgnoreIndex;
  const Tensor wide_x = x.detach().to(at::kDouble).requires_grad_();
  const Tensor wide_w = w.detach().to(at::kDouble).requires_grad_();
  for (const double z_loss : {0.0, 0.01}) {
    const Tensor expected = plain(wide_x, wide_w, targets, z_loss);
    const auto grads = torch::autograd::grad({expected}, {wide_x, wide_w});
    const Tensor loss = linear_cross_entropy(x, w, targets, 16, z_loss);
    const auto ours = torch::autograd::grad({loss}, {x, w});
    // A logit, a product of 12, is off by 12 roundings of the sum of its terms' sizes, below 40
    // here; its exponential by as much, relative, and by the 2 * 25 of the exponents' own rounding
    // and the 20 of the sum. The loss has a logit's and a sum's error, and z_loss, times twice an
    // lse below 25, the latter's again. A gradient is a sum of probabilities, each off by that
    // relative to itself, with inputs below 5 as weights, over a mean's 39 tokens at most.
    const double logit = 12 * 40 * 0x1p-24, power = logit + (2 * 25 + 20) * 0x1p-24;
    EXPECT_NEAR(loss.item<double>(), expected.item<double>(), (logit + power) * (1 + z_loss * 50));
    for (size_t i = 0; i < 2; ++i) {
      const double bound = 5 * power * (1 + z_loss * 50);
      EXPECT_LT((ours[i] - grads[i]).abs().max().item<double>(), bound) << i;
    }
  }
}

TEST(LinearCrossEntropyTest, GradientsAreThoseOfDifferences) {
  torch::manual_seed(18);
  const Tensor x = leaf({5, 3}), w = leaf({4, 3}), targets = torch::randint(4, {5});
  const auto f = [&] { return linear_cross_entropy(x, w, targets, 2).unsqueeze(0); };
  EXPECT_LT(support::gradient_error(f, {x, w}), support::kGradientTolerance);
}

TEST(LinearCrossEntropyTest, ProductsOf16BitsKeepAFloat32LossAndItsGradients) {
  // So many tokens that gradients divided by their number would be below float16's range.
  torch::manual_seed(19);
  const Tensor x = leaf({8192, 32}, at::kFloat), w = leaf({50, 32}, at::kFloat, 0.2);
  const Tensor targets = torch::randint(50, {8192});
  const Tensor expected = plain(x, w, targets);
  const auto grads = torch::autograd::grad({expected}, {x, w});
  for (const auto& [dtype, rounding] :
       {std::pair{at::kBFloat16, 0x1p-8}, std::pair{at::kHalf, 0x1p-11}}) {
    const base::AutocastGuard autocast({c10::kCPU, true, dtype});
    const Tensor loss = linear_cross_entropy(x, w, targets, 1000);
    const auto ours = torch::autograd::grad({loss}, {x, w});
    EXPECT_EQ(loss.scalar_type(), at::kFloat);
    EXPECT_EQ(ours[0].scalar_type(), at::kFloat);
    EXPECT_EQ(ours[1].scalar_type(), at::kFloat);
    // Logits of size 1 to 4 off by `rounding` of themselves; the mean of all by less than one.
    EXPECT_NEAR(loss.item<double>(), expected.item<double>(), 4 * rounding);
    // Softmax off by at most its exponent's error of 4 roundings, operands and result by one each.
    for (size_t i = 0; i < 2; ++i) {
      EXPECT_LT((ours[i] - grads[i]).norm().item<double>(),
                8 * rounding * grads[i].norm().item<double>())
          << dtype;
    }
  }
}

TEST(LinearCrossEntropyTest, SameInputsGiveTheSameBits) {
  torch::manual_seed(20);
  const Tensor x = leaf({300, 48}, at::kFloat), w = leaf({97, 48}, at::kFloat);
  const Tensor targets = torch::randint(97, {300});
  const auto run = [&] {
    const Tensor loss = linear_cross_entropy(x, w, targets, 128);
    auto all = torch::autograd::grad({loss}, {x, w});
    all.push_back(loss);
    return all;
  };
  const auto a = run(), b = run();
  for (size_t i = 0; i < a.size(); ++i) EXPECT_TRUE(at::equal(a[i], b[i]));
}

TEST(LinearCrossEntropyTest, SurvivesLargeLogits) {
  const Tensor x = torch::full({1, 1}, 1000.0, at::kDouble),
               w = torch::tensor({{1.0}, {-1.0}}, at::kDouble);
  EXPECT_EQ(linear_cross_entropy(x, w, torch::tensor({0})).item<double>(), 0.0);
  EXPECT_EQ(linear_cross_entropy(x, w, torch::tensor({1})).item<double>(), 2000.0);
}

TEST(LinearCrossEntropyTest, IsZeroWhereEveryTargetIsIgnored) {
  const Tensor x = leaf({2, 3}), w = leaf({4, 3});
  const Tensor loss = linear_cross_entropy(x, w, torch::full({2}, kIgnoreIndex));
  loss.backward();
  EXPECT_EQ(loss.item<double>(), 0.0);
  EXPECT_EQ(x.grad().abs().max().item<double>(), 0.0);
  EXPECT_EQ(w.grad().abs().max().item<double>(), 0.0);
}

TEST(LinearCrossEntropyTest, UnderNoGradOnlyTheLossIsComputed) {
  for (const auto dtype : {at::kDouble, at::kFloat}) {
    const Tensor x = leaf({4, 3}, dtype), w = leaf({5, 3}, dtype), targets = torch::randint(5, {4});
    const Tensor with_graph = linear_cross_entropy(x, w, targets);
    const torch::NoGradGuard no_grad;
    const Tensor loss = linear_cross_entropy(x, w, targets);
    EXPECT_FALSE(loss.requires_grad());
    EXPECT_TRUE(at::equal(loss, with_graph));
  }
}

TEST(LinearCrossEntropyTest, RefusesASecondDerivative) {
  const Tensor x = leaf({4, 3}), w = leaf({5, 3});
  const Tensor loss = linear_cross_entropy(x, w, torch::randint(5, {4}));
  EXPECT_THROW_WITH(torch::autograd::grad({loss}, {x}, {}, true, /*create_graph=*/true),
                    "a second derivative is not supported");
}

TEST(LinearCrossEntropyTest, NamesWhatDoesNotFit) {
  const Tensor x = torch::ones({4, 3}), w = torch::ones({5, 3}),
               targets = torch::zeros({4}, at::kLong);
  EXPECT_THROW_WITH(linear_cross_entropy(x, torch::ones({5, 2}), targets),
                    "expected [N,C] and [V,C]");
  EXPECT_THROW_WITH(linear_cross_entropy(x, w, torch::zeros({4})), "expected int64 [4]");
  EXPECT_THROW_WITH(linear_cross_entropy(x, w, targets, 0), "at least 1 token");
  EXPECT_THROW_WITH(linear_cross_entropy(x, w, targets, 1, -0.1), "z_loss is -0.1, expected 0");
  EXPECT_THROW_WITH(linear_cross_entropy(x, w, torch::full({4}, 5)), "targets must be 0 to 4");
}

}  // namespace
}  // namespace rev::nn
