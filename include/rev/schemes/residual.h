#pragma once

#include "rev/schemes/scheme.h"

namespace rev::schemes {

/// The baseline, forward Euler with h = 1:  p^(l+1) = p^(l) + f_l(p^(l))  (arXiv 2512.02056, eq 2,
/// 26).
///
/// Not invertible in general: layers are stored or checkpointed.
class Residual final : public Scheme {
 public:
  std::string name() const override { return "residual"; }
  bool invertible() const override { return false; }
  State begin(const at::Tensor& x, const StateOptions& options,
              const at::Tensor& saturated) const override;
  at::Tensor begin_adjoint(const State& g) const override { return g.p; }
  void step(int64_t l, State& s, const Fields& f, Witness& w) const override;
  void evaluate(int64_t l, State s, const Fields& f) const override;
  /// Throws c10::Error.
  void undo(int64_t l, State& s, const Fields& f, const Witness& left,
            Witness& rebuilt) const override;
  void adjoint(int64_t l, State& g, const Pullback& df) const override;
};

}  // namespace rev::schemes
