#pragma once

#include "rev/schemes/two_step.h"

namespace rev::schemes {

/// Midpoint (arXiv 2512.02056, eq 4):  p^(l+1) = p^(l-1) + 2 h f_l(p^(l)).
///
/// Stable where f's eigenvalues are imaginary and |2 h lambda| <= 2 (eq 12 to 14): it conserves and
/// does not damp.
class Midpoint final : public TwoStep {
 public:
  explicit Midpoint(double h = 0.5, Start start = Start::Euler);

 protected:
  Coefficients coefficients(int64_t l) const override { return {1.0, 0.0, 2.0 * h(l)}; }
  void advance(int64_t l, State& s, const at::Tensor& f, const kernels::Probe& probe,
               Witness& w) const override;
  void retreat(int64_t l, State& s, const at::Tensor& f, const kernels::Probe& probe,
               const Witness& left) const override;
};

}  // namespace rev::schemes
