#include "rev/schemes/stability.h"

#include <cmath>
#include <limits>

#include "rev/schemes/hamiltonian.h"
#include "rev/schemes/leapfrog.h"
#include "rev/schemes/midpoint.h"
#include "rev/schemes/midpoint_a.h"

namespace rev::schemes {
namespace {

using Complex = std::complex<double>;

// xi^2 - s xi + d = 0. The root that the square root does not cancel is taken first, the other from
// their product.
std::pair<Complex, Complex> roots(Complex s, Complex d) {
  const Complex r = std::sqrt(s * s - 4.0 * d);
  const Complex larger = 0.5 * (std::abs(s + r) >= std::abs(s - r) ? s + r : s - r);
  const Complex smaller = larger == Complex(0.0) ? Complex(0.0) : d / larger;
  return {larger, smaller};
}

}  // namespace

std::pair<Complex, Complex> two_step_roots(double a, double b, double c, Complex lambda) {
  return roots(b + c * lambda, -a);
}

std::pair<Complex, Complex> hamiltonian_roots(double a, double b, Complex lambda, Complex mu) {
  return roots(a + b + lambda * mu, a * b);
}

std::optional<double> stable_norm(const Scheme& scheme, int64_t layer) {
  if (const auto* s = dynamic_cast<const Midpoint*>(&scheme)) return 1.0 / std::fabs(s->h());
  if (const auto* s = dynamic_cast<const Leapfrog*>(&scheme)) return 4.0 / (s->h() * s->h());
  if (const auto* s = dynamic_cast<const MidpointA*>(&scheme)) {
    const double a = s->a(layer);
    return (1.0 + std::fabs(a) + std::fabs(1.0 - a)) / std::fabs(s->h());
  }
  if (const auto* s = dynamic_cast<const Hamiltonian*>(&scheme)) {
    return 2.0 + std::fabs(s->a() + 1.0 / s->a());
  }
  return std::nullopt;
}

}  // namespace rev::schemes
