#pragma once

#include "rev/kernels/grid.h"
#include "rev/schemes/scheme.h"

namespace rev::schemes {

/// Hamiltonian (arXiv 2512.02056, eq 8, 9; eq 20 and 24 for a other than 1): symplectic Euler,
///
///   q^(l+1) = a q^(l) + f_l(p^(l)),    p^(l+1) = b p^(l) + g_l(q^(l+1)),    a b = 1
///
/// Field 0 of a layer is f (attention), field 1 is g (the MLP). Both streams start as the input,
/// which the paper does not say; the result is p^(L). a is rounded to n / 2^8, b is its exact
/// reciprocal: on the grid the digits that one product loses are those that the other needs, so
/// that the shared buffer never grows. Stable where -4 <= lambda mu <= 0 for a = b = 1 (eq 25).
class Hamiltonian final : public Scheme {
 public:
  explicit Hamiltonian(double a = 1.0);

  std::string name() const override { return "hamiltonian"; }
  int64_t fields_per_layer() const override { return 2; }
  StateOptions plan(int64_t n_layers, StateOptions options) const override;
  State begin(const at::Tensor& x, const StateOptions& options,
              const at::Tensor& saturated) const override;
  at::Tensor begin_adjoint(const State& g) const override;
  void step(int64_t l, State& s, const Fields& f, Witness& w) const override;
  void evaluate(int64_t l, State s, const Fields& f) const override;
  void undo(int64_t l, State& s, const Fields& f, const Witness& left,
            Witness& rebuilt) const override;
  void adjoint(int64_t l, State& g, const Pullback& df) const override;

  std::optional<double> stable_norm(int64_t l) const override;

  double a() const { return a_.value(); }

 private:
  void advance_q(State& s, const Fields& f, Witness& w) const;

  kernels::Ratio a_, b_;
};

}  // namespace rev::schemes
