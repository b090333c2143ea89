#pragma once

#include "rev/schemes/two_step.h"

namespace rev::schemes {

/// Leapfrog (arXiv 2512.02056, eq 6):  p^(l+1) = 2 p^(l) - p^(l-1) + h^2 f_l(p^(l)).
///
/// Its own inverse with the ends exchanged. Stable where f's eigenvalues are real and
/// -4 <= h^2 lambda <= 0 (eq 12 to 14).
class Leapfrog final : public TwoStep {
 public:
  explicit Leapfrog(double h = 0.5, Start start = Start::Euler);

 protected:
  Coefficients coefficients(int64_t l) const override { return {-1.0, 2.0, h(l) * h(l)}; }
  void advance(int64_t l, State& s, const at::Tensor& f, const kernels::Probe& probe,
               Witness& w) const override;
  void retreat(int64_t l, State& s, const at::Tensor& f, const kernels::Probe& probe,
               const Witness& left) const override;
};

}  // namespace rev::schemes
