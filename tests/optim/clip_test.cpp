#include "rev/optim/clip.h"

#include <cmath>
#include <gtest/gtest.h>
#include <limits>
#include <torch/torch.h>

#include "support/throws.h"

namespace rev::optim {
namespace {

using at::Tensor;

Tensor with_grad(const Tensor& grad) {
  const Tensor w = torch::zeros_like(grad).requires_grad_();
  w.mutable_grad() = grad;
  return w;
}

TEST(ClipTest, ScalesToTheGlobalNormAndReturnsTheOldOne) {
  const Tensor a = with_grad(torch::tensor({{3.0, 0.0}}, at::kDouble));
  const Tensor b = with_grad(torch::tensor({0.0, 4.0, 0.0}, at::kDouble));
  const Tensor none = torch::zeros({2}).requires_grad_();
  EXPECT_EQ(clip_grad_norm({a, none, b}, 1.0), 5.0);
  // The factor, the product and the expected value are each rounded to 2^-53 of themselves.
  const double tolerance = 3 * std::pow(2.0, -53);
  EXPECT_TRUE(at::allclose(a.grad(), torch::tensor({{0.6, 0.0}}, at::kDouble), 0, tolerance));
  EXPECT_TRUE(at::allclose(b.grad(), torch::tensor({0.0, 0.8, 0.0}, at::kDouble), 0, tolerance));
}

TEST(ClipTest, LeavesShortGradientsAlone) {
  const Tensor a = with_grad(torch::tensor({0.3f, -0.4f}));
  const Tensor before = a.grad().clone();
  // 0.3f and 0.4f, their squares, the sum and the root are each rounded to 2^-24 of themselves,
  // which before the root counts half: 0.5 (1 + 1/2 + 1/2 + 1) 2^-24.
  EXPECT_NEAR(clip_grad_norm({a}, 1.0), 0.5, 1.5 * std::pow(2.0, -24));
  EXPECT_TRUE(at::equal(a.grad(), before));
}

TEST(ClipTest, NormOfAHugeMatrixIsThatOfFloat64) {
  torch::manual_seed(33);
  const Tensor a = with_grad(torch::randn({4096, 1024}));
  const double exact = a.grad().to(at::kDouble).norm().item<double>();
  // Slices' sums of squares are off by 19 units of 2^-24, their root by half, and it rounds once.
  EXPECT_NEAR(clip_grad_norm({a}, std::numeric_limits<double>::infinity()) / exact, 1.0,
              11 * std::pow(2.0, -24));
}

TEST(ClipTest, FactorOnTheDeviceIsThatOfClipping) {
  torch::manual_seed(39);
  const Tensor a = with_grad(torch::randn({40, 30})), b = with_grad(torch::randn({7}));
  const Tensor none = torch::zeros({2}).requires_grad_();
  Tensor flag = torch::zeros({1}, at::kInt);
  const auto found = grad_norm({a, none, b}, 2.0, flag);
  const Tensor scaled = a.grad() * found.factor;
  EXPECT_EQ(clip_grad_norm({a, none, b}, 2.0), found.norm.item<double>());
  // The factor rounds to a float before it multiplies, or not: products below 4, one rounding each.
  EXPECT_TRUE(at::allclose(a.grad(), scaled, 0, 4 * std::pow(2.0, -24)));
  EXPECT_EQ(flag.item<int32_t>(), 0);
  b.mutable_grad()[0] = INFINITY;
  EXPECT_EQ(grad_norm({a, b}, 2.0, flag).factor.item<float>(), 1);
  EXPECT_EQ(flag.item<int32_t>(), 1);
}

TEST(ClipTest, LeavesGradientsThatAreNotFinite) {
  const Tensor a = with_grad(torch::tensor({NAN, 1.0f})), b = with_grad(torch::tensor({7.0f}));
  EXPECT_TRUE(std::isnan(clip_grad_norm({a, b}, 1.0)));
  EXPECT_EQ(b.grad().item<float>(), 7.0f);
}

TEST(ClipTest, RefusesANormOfZero) {
  EXPECT_THROW_WITH(clip_grad_norm({}, 0), "clip_grad_norm: max_norm is 0");
  EXPECT_THROW_WITH(grad_norm({}, 0), "grad_norm: max_norm is 0");
}

}  // namespace
}  // namespace rev::optim
