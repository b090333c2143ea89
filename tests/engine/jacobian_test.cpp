#include "rev/engine/jacobian.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "rev/schemes/midpoint.h"

namespace rev::engine {
namespace {

using at::Tensor;

// x -> x A^T, whose Jacobian's norm is A's, with a gap between the first two singular values.
Tensor matrix(double largest, at::ScalarType dtype) {
  torch::manual_seed(1);
  const Tensor u = std::get<0>(torch::linalg_qr(torch::randn({6, 6}, torch::kDouble)));
  const Tensor v = std::get<0>(torch::linalg_qr(torch::randn({6, 6}, torch::kDouble)));
  const Tensor s = torch::tensor({1.0, 0.5, 0.4, 0.3, 0.2, 0.1}, torch::kDouble) * largest;
  return u.matmul(torch::diag(s)).matmul(v).to(dtype);
}

TEST(JacobianTest, IsTheNormOfALinearMap) {
  for (const auto dtype : {at::kFloat, at::kDouble}) {
    const Tensor a = matrix(3.0, dtype);
    const FieldPtr f = field([a](const Tensor& x) { return x.matmul(a.t()); }, {});
    const Tensor x = torch::randn({2, 3, 6}, dtype);
    // Each iteration shrinks what is not the first singular vector by 1/4: 4^-20 is 1e-12. What is
    // left is rounding, at most a few eps.
    const double eps = dtype == at::kDouble ? 2.3e-16 : 1.2e-7;
    EXPECT_NEAR(jacobian_norm(*f, {x}, 20, 0), 3.0, 3.0 * 16 * eps);
    EXPECT_LE(jacobian_norm(*f, {x}, 1, 0), 3.0 * (1 + 16 * eps));
  }
}

TEST(JacobianTest, TakesSeveralInputsAsOneVector) {
  const FieldPtr f =
      cross_field([](const Tensor& a, const Tensor& b) { return 3 * a + 4 * b; }, {});
  const Tensor x = torch::randn({2, 3, 4}, torch::kDouble);
  // The second singular value is 0: one iteration does; what is left is rounding.
  EXPECT_NEAR(jacobian_norm(*f, {x, x.clone()}, 2, 0), 5.0, 5.0 * 16 * 2.3e-16);
}

TEST(JacobianTest, OfANonlinearFieldAtAPoint) {
  const FieldPtr f = field([](const Tensor& x) { return x.square(); }, {});
  const Tensor x = torch::tensor({{0.1, -2.0, 1.0}}, torch::kDouble);
  EXPECT_NEAR(jacobian_norm(*f, {x}, 40, 0), 4.0, 1e-10);  // (1/2)^2 to the 40th is 1e-24
}

TEST(JacobianTest, IsZeroForAConstantAndNotANumberWhereTheFieldIsNot) {
  const Tensor x = torch::ones({2, 3});
  const FieldPtr constant = field([](const Tensor& t) { return torch::ones_like(t); }, {});
  EXPECT_EQ(jacobian_norm(*constant, {x}, 3, 0), 0.0);
  const FieldPtr broken = field([](const Tensor& t) { return (t - 2).log(); }, {});
  EXPECT_TRUE(std::isnan(jacobian_norm(*broken, {x}, 3, 0)));
}

TEST(JacobianTest, LeavesGeneratorsAsFoundAndRepeatsItself) {
  torch::manual_seed(3);
  const FieldPtr f = field([](const Tensor& x) { return torch::dropout(x, 0.5, true); }, {});
  const Tensor x = torch::ones({4, 8});
  const double first = jacobian_norm(*f, {x}, 5, 0);
  EXPECT_EQ(jacobian_norm(*f, {x}, 5, 0), first);
  // One realisation, a diagonal of 0 and 2: J^T u is 2 u for a unit vector in float32.
  EXPECT_NEAR(first, 2.0, 2.0 * 16 * 1.2e-7);
  const Tensor after = torch::rand({1});
  torch::manual_seed(3);
  EXPECT_TRUE(at::equal(torch::rand({1}), after));
}

TEST(JacobianTest, LeavesBuffersAsFound) {
  torch::nn::BatchNorm1d norm(torch::nn::BatchNorm1dOptions(3));
  const Tensor x = torch::randn({5, 3});
  const Tensor mean = norm->running_mean.clone(), variance = norm->running_var.clone();
  jacobian_norm(*field(norm), {x}, 3, 0);
  const Stack stack(std::make_shared<schemes::Midpoint>(), {field(norm), field(norm)});
  jacobian_norms(stack, x, 3, 0);
  EXPECT_EQ(norm->num_batches_tracked.item<int64_t>(), 0);
  EXPECT_TRUE(at::equal(norm->running_mean, mean));
  EXPECT_TRUE(at::equal(norm->running_var, variance));
}

TEST(JacobianTest, OfAStackIsTakenOnItsTrajectory) {
  // f = x^2 by midpoint with h = 1/2 from x = 1: p_1 = 1 + 1 = 2, then layer 1 reads 2.
  const auto square = [] { return field([](const Tensor& x) { return x.square(); }, {}); };
  const Stack stack(std::make_shared<schemes::Midpoint>(0.5), {square(), square()});
  const auto norms = jacobian_norms(stack, torch::ones({1, 1, 4}), 3, 0);
  ASSERT_EQ(norms.size(), 2u);
  EXPECT_NEAR(norms[0].at(0), 2.0, 2.0 * 16 * 1.2e-7);
  EXPECT_NEAR(norms[1].at(0), 4.0, 4.0 * 16 * 1.2e-7);
}

}  // namespace
}  // namespace rev::engine
