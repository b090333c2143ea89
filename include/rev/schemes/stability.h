// Linear stability (arXiv 2512.02056, eq 10 to 14 and 20 to 25): what a scheme does to the test
// equation f(p) = lambda p. What a stack is held against: `Scheme::stable_norm`.
#pragma once

#include <complex>
#include <utility>

namespace rev::schemes {

/// The roots xi of xi^2 - (b + c lambda) xi - a = 0, the growth factors per layer of
/// p^(l+1) = a p^(l-1) + b p^(l) + c f(p^(l)) (eq 10, 11; c = 2h, h^2 or h). The larger one first.
std::pair<std::complex<double>, std::complex<double>> two_step_roots(double a, double b, double c,
                                                                     std::complex<double> lambda);

/// The roots of xi^2 - (a + b + lambda mu) xi + a b = 0, the growth factors per layer of the
/// Hamiltonian scheme with f(p) = lambda p, g(q) = mu q (eq 21 to 23). The larger one first.
std::pair<std::complex<double>, std::complex<double>> hamiltonian_roots(double a, double b,
                                                                        std::complex<double> lambda,
                                                                        std::complex<double> mu);

}  // namespace rev::schemes
