#include "rev/nn/dropout.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "support/throws.h"

namespace rev::nn {
namespace {

using at::Tensor;

TEST(DropoutTest, SameGeneratorStateGivesTheSameMaskWhateverTheDtype) {
  const Tensor x = torch::ones({17, 33});
  torch::manual_seed(5);
  const Tensor y = dropout(x, 0.3), z = dropout(x, 0.3);
  torch::manual_seed(5);
  const Tensor mask = dropout_mask({17, 33}, 0.3, c10::kCPU);
  EXPECT_TRUE(at::equal(y.ne(0), mask));
  for (const auto dtype : {at::kBFloat16, at::kHalf, at::kDouble}) {
    torch::manual_seed(5);
    EXPECT_TRUE(at::equal(dropout(x.to(dtype), 0.3).ne(0), mask)) << dtype;
  }
  EXPECT_FALSE(at::equal(y, z));
}

TEST(DropoutTest, KeepsTheMean) {
  torch::manual_seed(6);
  // A mean of n terms that are 0 or 1/(1-p): standard deviation sqrt(p / (1 - p) / n), times 5.
  const double p = 0.2, n = 1 << 18;
  EXPECT_NEAR(dropout(torch::ones({1 << 18}), p).mean().item<double>(), 1.0,
              5 * std::sqrt(p / (1 - p) / n));
}

TEST(DropoutTest, IsWhatApplyingItsMaskGivesInEveryBit) {
  for (const auto dtype : {at::kFloat, at::kBFloat16, at::kDouble}) {
    const Tensor x = torch::randn({17, 33}).to(dtype);
    torch::manual_seed(7);
    const Tensor y = dropout(x, 0.3);
    torch::manual_seed(7);
    EXPECT_TRUE(at::equal(y, apply_dropout(x, dropout_mask(x.sizes(), 0.3, c10::kCPU), 0.3)))
        << dtype;
  }
}

TEST(DropoutTest, BackwardDrawsTheSameMaskAgain) {
  for (const auto dtype : {at::kFloat, at::kBFloat16, at::kDouble}) {
    const Tensor x = torch::randn({17, 33}).to(dtype).requires_grad_();
    const Tensor grad = torch::randn({33, 17}).to(dtype).t();
    torch::manual_seed(8);
    const Tensor mask = dropout_mask(x.sizes(), 0.3, c10::kCPU);
    torch::manual_seed(8);
    const Tensor y = dropout(x, 0.3);
    torch::rand({5});  // what is drawn in between does not matter
    const Tensor v = torch::randn_like(x).requires_grad_();
    const Tensor gx = torch::autograd::grad({y}, {x}, {grad}, /*retain_graph=*/true)[0];
    EXPECT_TRUE(at::equal(gx, apply_dropout(grad, mask, 0.3))) << dtype;
    // Once more through the gradient: d (dropout(v)) / d v.
    const Tensor again =
        torch::autograd::grad({y}, {x}, {v}, /*retain_graph=*/true, /*create_graph=*/true)[0];
    EXPECT_TRUE(at::equal(torch::autograd::grad({again}, {v}, {grad})[0], gx)) << dtype;
  }
}

TEST(DropoutTest, AGraphKeepsNoMask) {
  torch::manual_seed(9);
  const Tensor x = torch::randn({64, 64}, torch::requires_grad());
  const Tensor y = dropout(x, 0.3);
  // One node, whose only input is x: nothing of x's size is saved beside it.
  EXPECT_EQ(y.grad_fn()->num_inputs(), 1u);
  ASSERT_EQ(y.grad_fn()->next_edges().size(), 1u);
  EXPECT_EQ(y.grad_fn()->next_edge(0).function->name(), "torch::autograd::AccumulateGrad");
}

TEST(DropoutTest, WithZeroNothingIsDrawn) {
  const Tensor before = at::detail::getDefaultCPUGenerator().get_state();
  const Tensor x = torch::ones({4});
  EXPECT_TRUE(dropout(x, 0).is_same(x));
  EXPECT_TRUE(at::equal(before, at::detail::getDefaultCPUGenerator().get_state()));
}

TEST(DropoutTest, RefusesAProbabilityOfOne) {
  EXPECT_THROW_WITH(dropout(torch::ones({4}), 1.0), "0 <= p < 1");
}

}  // namespace
}  // namespace rev::nn
