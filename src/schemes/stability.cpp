#include "rev/schemes/stability.h"

#include <cmath>

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

}  // namespace rev::schemes
