#include "rev/schemes/stability.h"

#include <cmath>
#include <gtest/gtest.h>
#include <numbers>
#include <torch/torch.h>

#include "rev/schemes/hamiltonian.h"
#include "rev/schemes/leapfrog.h"
#include "rev/schemes/midpoint.h"
#include "rev/schemes/midpoint_a.h"
#include "rev/schemes/residual.h"
#include "rev/schemes/revffn.h"
#include "schemes/fields.h"

namespace rev::schemes {
namespace {

using Complex = std::complex<double>;
constexpr double kRounding = 1e-12;  // a square root and a few products of numbers below 10

TEST(StabilityTest, RootsSolveTheirEquations) {
  for (const Complex lambda : {Complex(-0.3, 0.0), Complex(0.1, 1.7), Complex(2.0, -3.0)}) {
    for (const double a : {1.0, -1.0, 0.6, -1.4}) {
      const auto [larger, smaller] = two_step_roots(a, 1 - a, 0.5, lambda);
      EXPECT_GE(std::abs(larger), std::abs(smaller) - kRounding);
      for (const Complex xi : {larger, smaller}) {
        EXPECT_LT(std::abs(xi * xi - (1 - a + 0.5 * lambda) * xi - a), kRounding);
      }
    }
    const Complex mu(0.4, -0.2);
    const auto [larger, smaller] = hamiltonian_roots(1.25, 0.8, lambda, mu);
    EXPECT_LT(std::abs(larger * smaller - 1.0), kRounding);  // a b = 1: volume is kept (eq 24)
    EXPECT_LT(std::abs(larger + smaller - (2.05 + lambda * mu)), kRounding);
  }
}

TEST(StabilityTest, MidpointIsStableOnTheImaginaryAxisUpToOneOverH) {
  const double h = 0.5;  // c = 2h = 1, b = 0
  for (const double y : {0.1, 1.0, 1.9}) {
    const auto [xi, other] = two_step_roots(1, 0, 2 * h, Complex(0, y));
    EXPECT_NEAR(std::abs(xi), 1, kRounding) << y;
    EXPECT_NEAR(std::abs(other), 1, kRounding) << y;
  }
  EXPECT_GT(std::abs(two_step_roots(1, 0, 2 * h, Complex(0, 2.1)).first), 1.1);
  EXPECT_GT(std::abs(two_step_roots(1, 0, 2 * h, Complex(-0.5, 0)).first), 1.1);
  EXPECT_EQ(Midpoint(h).stable_norm(1), 2.0);
}

TEST(StabilityTest, LeapfrogIsStableOnTheNegativeRealAxis) {
  const double h = 0.5;  // c = h^2, a = -1, b = 2
  for (const double x : {-0.1, -8.0, -15.9}) {
    EXPECT_NEAR(std::abs(two_step_roots(-1, 2, h * h, x).first), 1, kRounding) << x;
  }
  EXPECT_GT(std::abs(two_step_roots(-1, 2, h * h, -16.5).first), 1.1);
  EXPECT_GT(std::abs(two_step_roots(-1, 2, h * h, 0.5).first), 1.1);
  EXPECT_EQ(Leapfrog(h).stable_norm(1), 16.0);
}

TEST(StabilityTest, HamiltonianIsStableBetweenMinusFourAndZero) {
  for (const double product : {-0.1, -2.0, -3.9}) {
    EXPECT_NEAR(std::abs(hamiltonian_roots(1, 1, 1, product).first), 1, kRounding);
  }
  EXPECT_GT(std::abs(hamiltonian_roots(1, 1, 1, -4.5).first), 1.1);
  EXPECT_GT(std::abs(hamiltonian_roots(1, 1, 1, 0.5).first), 1.1);
  EXPECT_EQ(Hamiltonian().stable_norm(0), 4.0);
  EXPECT_EQ(Hamiltonian(1.25).stable_norm(0), 2.0 + 1.25 + 0.8);
}

TEST(StabilityTest, MidpointAAndTheOthers) {
  EXPECT_EQ(MidpointA({1.0, -0.5}, 0.5).stable_norm(1), (1 + 0.5 + 1.5) / 0.5);
  EXPECT_FALSE(Residual().stable_norm(0).has_value());
  EXPECT_FALSE(RevFFN().stable_norm(0).has_value());
  EXPECT_FALSE(Midpoint().stable_norm(0).has_value());  // an Euler start
  EXPECT_TRUE(Midpoint(0.5, Start::Copy).stable_norm(0).has_value());
}

// Beyond the norm a root exceeds max(1, |a|) wherever lambda lies on the circle.
TEST(StabilityTest, TheNormIsWhereGrowthBecomesCertain) {
  const double h = 0.5;
  for (const double a : {-0.5, 0.75, 1.25, -1.4}) {
    const MidpointA scheme({1.0, a}, h);
    const double norm = scheme.stable_norm(1).value(), most = std::max(1.0, std::abs(scheme.a(1)));
    for (int k = 0; k < 360; ++k) {
      const Complex lambda = std::polar(1.01 * norm, k * std::numbers::pi / 180);
      EXPECT_GT(std::abs(two_step_roots(scheme.a(1), 1 - scheme.a(1), h, lambda).first), most);
    }
  }
}

// The factor of growth that `steps` steps of the scheme show on f(p) = lambda p, started on the
// root's own trajectory, is the root.
TEST(StabilityTest, StepsGrowByTheRoots) {
  const double h = 0.4, lambda = -0.7;
  Midpoint scheme(h);
  const double xi = two_step_roots(1, 0, 2 * h, lambda).first.real();
  StateOptions options;
  options.dtype = at::kDouble;
  State s;
  s.q = torch::full({1, 1}, 1.0, at::kDouble);
  s.p = torch::full({1, 1}, xi, at::kDouble);
  const TestFields f({[=](at::TensorList x) { return x[0] * lambda; }});
  Witness none;
  for (int l = 1; l < 21; ++l) scheme.step(l, s, f, none);
  // 21 steps of three roundings of 1e-16, and as many of xi's own.
  EXPECT_NEAR(s.p.item<double>() / std::pow(xi, 21), 1, 1e-13);
}

// p^(l+1) = 2 p^(l) - p^(l-1) + h^2 A p^(l) with A symmetric keeps
// E = |p^(l+1) - p^(l)|^2 - h^2 <p^(l+1), A p^(l)>.
TEST(StabilityTest, LeapfrogKeepsItsInvariantOnALinearField) {
  torch::manual_seed(2);
  const double h = 0.5;
  const at::Tensor m = torch::randn({6, 6}, at::kDouble), a = -m.matmul(m.t());  // h^2 |A| below 4
  const double norm = at::linalg_matrix_norm(a, 2).item<double>();
  const at::Tensor A = a * (3.0 / (h * h * norm));
  Leapfrog scheme(h);
  State s;
  s.q = torch::randn({1, 6}, at::kDouble);
  s.p = s.q + 0.1 * torch::randn({1, 6}, at::kDouble);
  const auto energy = [&] {
    const at::Tensor d = s.p - s.q;
    return ((d * d).sum() - h * h * (s.p * s.q.matmul(A)).sum()).item<double>();
  };
  const double before = energy();
  const TestFields f({[&](at::TensorList x) { return x[0].matmul(A); }});
  Witness none;
  for (int l = 1; l < 1001; ++l) scheme.step(l, s, f, none);
  EXPECT_NEAR(energy() / before, 1, 1e-10);  // 1000 steps of a few roundings, which add up linearly
}

// q' = q + lambda p, p' = p + mu q' is a linear map M of determinant 1 on v = (q, p), so the area
// det[v, M v] = mu q^2 + lambda mu q p - lambda p^2 stays.
TEST(StabilityTest, HamiltonianKeepsItsInvariantOnALinearField) {
  const double lambda = 0.8, mu = -1.1;
  Hamiltonian scheme;
  State s;
  s.q = torch::full({1, 1}, 0.3, at::kDouble);
  s.p = torch::full({1, 1}, -0.9, at::kDouble);
  const auto energy = [&] {
    const double q = s.q.item<double>(), p = s.p.item<double>();
    return mu * q * q - lambda * p * p + lambda * mu * q * p;
  };
  const double before = energy();
  const TestFields f({[=](at::TensorList x) { return x[0] * lambda; },
                      [=](at::TensorList x) { return x[0] * mu; }});
  Witness none;
  for (int l = 0; l < 1000; ++l) scheme.step(l, s, f, none);
  EXPECT_NEAR(energy() / before, 1, 1e-10);  // as above
}

}  // namespace
}  // namespace rev::schemes
