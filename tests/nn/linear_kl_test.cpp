#include "rev/nn/linear_kl.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "rev/base/autocast_state.h"
#include "rev/kernels/cross_entropy.h"
#include "support/gradcheck.h"
#include "support/throws.h"

namespace rev::nn {
namespace {

using at::Tensor;
using support::leaf;

Tensor plain(const Tensor& x, const Tensor& w, const Tensor& y, const Tensor& u,
             const LinearKlOptions& o) {
  const Tensor log_p = torch::log_softmax(y.matmul(u.t()) / o.temperature, 1);
  const Tensor log_q = torch::log_softmax(x.matmul(w.t()) / o.temperature, 1);
  const bool forward = o.direction == Divergence::Forward;
  const Tensor kl =
      forward ? (log_p.exp() * (log_p - log_q)).sum(1) : (log_q.exp() * (log_q - log_p)).sum(1);
  return o.targets.defined() ? kl.masked_select(o.targets.ne(kernels::kIgnoreIndex)).mean()
                             : kl.mean();
}

struct Case {
  Tensor x, w, y, u, targets;
};

Case make_case(at::ScalarType dtype) {
  torch::manual_seed(31);
  Case c{leaf({10, 6}, dtype), leaf({7, 6}, dtype), leaf({10, 4}, dtype), leaf({7, 4}, dtype),
         torch::randint(7, {10})};
  c.targets[3] = kernels::kIgnoreIndex;
  c.targets[9] = kernels::kIgnoreIndex;
  return c;
}

std::vector<LinearKlOptions> all_options(const Tensor& targets) {
  std::vector<LinearKlOptions> all;
  for (const Divergence direction : {Divergence::Forward, Divergence::Reverse}) {
    for (const double temperature : {1.0, 2.5}) {
      for (const Tensor& t : {Tensor(), targets}) {
        for (const int64_t chunk : {1, 3, 10, 64})
          all.push_back({direction, temperature, t, chunk});
      }
    }
  }
  return all;
}

TEST(LinearKlTest, IsThePlainDivergenceAndItsGradients) {
  const Case c = make_case(at::kDouble);
  for (const LinearKlOptions& options : all_options(c.targets)) {
    const Tensor expected = plain(c.x, c.w, c.y.detach(), c.u.detach(), options);
    const auto grads = torch::autograd::grad({expected * 3}, {c.x, c.w});
    const Tensor loss = linear_kl(c.x, c.w, c.y, c.u, options);
    const auto ours = torch::autograd::grad({loss * 3}, {c.x, c.w});
    // Logits of size 1 to 8, sums of at most 10 terms in float64 in another order.
    EXPECT_NEAR(loss.item<double>(), expected.item<double>(), 5e-14);
    for (size_t i = 0; i < 2; ++i) EXPECT_TRUE(at::allclose(ours[i], grads[i], 0, 5e-14)) << i;
  }
}

TEST(LinearKlTest, InFloat32ItIsTheSameToItsRounding) {
  const Case wide = make_case(at::kDouble);
  const auto narrow = [](const Tensor& t) { return t.detach().to(at::kFloat); };
  const Tensor x = narrow(wide.x).requires_grad_(), w = narrow(wide.w).requires_grad_();
  for (const LinearKlOptions& options : all_options(wide.targets)) {
    const Tensor expected = plain(wide.x, wide.w, wide.y, wide.u, options);
    const auto grads = torch::autograd::grad({expected}, {wide.x, wide.w});
    const Tensor loss = linear_kl(x, w, narrow(wide.y), narrow(wide.u), options);
    const auto ours = torch::autograd::grad({loss}, {x, w});
    // Operands and logits, of sizes below 3 and 12, are off by some 8 roundings of 12; so are log p
    // and log q, of size below 24, and p by as much, relative. A divergence is a mean of their
    // differences; a gradient a sum over ten tokens, weighed by inputs below 3.
    const double off = (8 * 12 + 2 * 24) * 0x1p-24;
    EXPECT_NEAR(loss.item<double>(), expected.item<double>(), 2 * off * 12);
    for (size_t i = 0; i < 2; ++i) {
      EXPECT_LT((ours[i] - grads[i]).abs().max().item<double>(), 3 * 2 * off * 12) << i;
    }
  }
}

TEST(LinearKlTest, GradientsAreThoseOfDifferences) {
  const Case c = make_case(at::kDouble);
  for (const Divergence direction : {Divergence::Forward, Divergence::Reverse}) {
    const auto f = [&] {
      return linear_kl(c.x, c.w, c.y, c.u, {direction, 1.5, c.targets, 4}).unsqueeze(0);
    };
    EXPECT_LT(support::gradient_error(f, {c.x, c.w}), support::kGradientTolerance);
  }
}

TEST(LinearKlTest, TheTeacherGetsNoGradient) {
  const Case c = make_case(at::kFloat);
  linear_kl(c.x, c.w, c.y, c.u).backward();
  EXPECT_TRUE(c.x.grad().defined() && c.w.grad().defined());
  EXPECT_FALSE(c.y.grad().defined() || c.u.grad().defined());
}

TEST(LinearKlTest, OfTheSameDistributionItIsZeroAndSoIsItsGradient) {
  for (const bool bfloat16 : {false, true}) {
    const Case c = make_case(at::kFloat);
    const base::AutocastGuard autocast({c10::kCPU, bfloat16, at::kBFloat16});
    for (const Divergence direction : {Divergence::Forward, Divergence::Reverse}) {
      const Tensor loss = linear_kl(c.x, c.w, c.x, c.w, {direction});
      EXPECT_EQ(loss.scalar_type(), at::kFloat);
      EXPECT_EQ(loss.item<float>(), 0.0f);
      const auto grads = torch::autograd::grad({loss}, {c.x, c.w});
      for (const Tensor& g : grads) EXPECT_EQ(g.abs().max().item<float>(), 0.0f);
    }
  }
}

TEST(LinearKlTest, UnderNoGradOnlyTheDivergenceIsComputed) {
  for (const auto dtype : {at::kDouble, at::kFloat}) {
    const Case c = make_case(dtype);
    const Tensor with_graph = linear_kl(c.x, c.w, c.y, c.u);
    const torch::NoGradGuard no_grad;
    const Tensor loss = linear_kl(c.x, c.w, c.y, c.u);
    EXPECT_FALSE(loss.requires_grad());
    EXPECT_TRUE(at::equal(loss, with_graph));
  }
}

TEST(LinearKlTest, NamesWhatDoesNotFit) {
  const Case c = make_case(at::kFloat);
  EXPECT_THROW_WITH(linear_kl(c.x, c.u, c.y, c.u), "linear_kl: x is [10, 6] and weight [7, 4]");
  EXPECT_THROW_WITH(linear_kl(c.x, c.w, c.y, torch::ones({8, 4})), "expected [10,C'] and [7,C']");
  EXPECT_THROW_WITH(linear_kl(c.x, c.w, torch::ones({9, 4}), c.u), "the teacher's x is [9, 4]");
  LinearKlOptions options;
  options.temperature = 0;
  EXPECT_THROW_WITH(linear_kl(c.x, c.w, c.y, c.u, options), "expected a finite number above 0");
  options = {};
  options.targets = torch::zeros({10});
  EXPECT_THROW_WITH(linear_kl(c.x, c.w, c.y, c.u, options), "expected int64 [10]");
  options = {};
  options.chunk = 0;
  EXPECT_THROW_WITH(linear_kl(c.x, c.w, c.y, c.u, options), "at least 1 token");
}

}  // namespace
}  // namespace rev::nn
