#pragma once

#include <vector>

#include "rev/schemes/two_step.h"

namespace rev::schemes {

/// midpoint(a) (arXiv 2512.02056, eq 15):
///
///   p^(l+1) = a_l p^(l-1) + (1 - a_l) p^(l) + h f_l(p^(l))
///
/// (h, not 2 h: with a = 1 it is midpoint with half the step). Its mean over a with E a = 0 is
/// forward Euler (eq 17, 18). Weights are rounded to n / 2^8. On the grid a product loses digits,
/// which are kept: in one buffer for the whole stack, 32 or 64 bits an element, whatever the depth
/// (see `plan_digits`); or, where each |a_l| is 2^-s_l, layer by layer, s_l bits an element in bit
/// planes (kernels::shift_down_). With float states the inverse divides by a_l and so amplifies
/// rounding by 1 / |a_l|.
class MidpointA final : public TwoStep {
 public:
  /// a: one weight for each layer, 1/512 < |a| < 65536; a_0 is not used after an Euler start. h:
  /// the step of each layer, or one for all.
  MidpointA(const std::vector<double>& a, std::vector<double> h, Start start = Start::Euler);
  explicit MidpointA(const std::vector<double>& a, double h = 0.5, Start start = Start::Euler);

  /// n draws of +-1 + U(-1/2, 1/2), the sign fair (eq 16): a pure function of the seed.
  static std::vector<double> draw(int64_t n, uint64_t seed);

  /// As `draw`, but each second |a| is the reciprocal of the one before it, rounded up to n / 2^8:
  /// the digits then fit into 32 bits at any depth.
  static std::vector<double> draw_pairs(int64_t n, uint64_t seed);

  /// Throws c10::Error where there is not one weight (and, of several, one step) for each layer, or
  /// 64 bits an element do not hold the digits.
  StateOptions plan(int64_t n_layers, StateOptions options) const override;
  State begin(const at::Tensor& x, const StateOptions& options,
              const at::Tensor& saturated) const override;

  /// The weight of layer l, a fraction of 2^8. Throws c10::Error where there is no such layer.
  double a(int64_t l) const;

 protected:
  Coefficients coefficients(int64_t l) const override { return {a(l), 1.0 - a(l), h(l)}; }
  void advance(int64_t l, State& s, const at::Tensor& f, const kernels::Probe& probe,
               Witness& w) const override;
  void retreat(int64_t l, State& s, const at::Tensor& f, const kernels::Probe& probe,
               const Witness& left) const override;

 private:
  std::vector<kernels::Ratio> a_;
};

}  // namespace rev::schemes
