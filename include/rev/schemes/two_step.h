// What midpoint, midpoint(a) and leapfrog share (eq 10):
//
//   p^(l+1) = a p^(l-1) + b p^(l) + c f_l(p^(l))
//
// The state is two successive points of the trajectory, (q, p) = (p^(l-1), p^(l)). The recurrence
// needs two starting points, which the papers do not give: see Start. The result is p^(L).
#pragma once

#include <vector>

#include "rev/kernels/grid.h"
#include "rev/schemes/scheme.h"

namespace rev::schemes {

/// How p^(1) comes from p^(0) = x.
enum class Start {
  Euler,  ///< p^(1) = p^(0) + f_0(p^(0)): layer 0 is a plain residual step
  Copy,   ///< p^(0) stands twice: layer 0 is a step of the scheme like any other
};

class TwoStep : public Scheme {
 public:
  std::string name() const final { return name_; }

  State begin(const at::Tensor& x, const StateOptions& options,
              const at::Tensor& saturated) const override;
  at::Tensor begin_adjoint(const State& g) const override;
  void step(int64_t l, State& s, const Fields& f, Witness& w) const final;
  void evaluate(int64_t l, State s, const Fields& f) const final;
  State needed(const State& s) const final;
  void undo(int64_t l, State& s, const Fields& f, const Witness& left,
            Witness& rebuilt) const final;
  void adjoint(int64_t l, State& g, const Pullback& df) const final;
  std::optional<double> stable_norm(int64_t l) const final;

 protected:
  /// h: the step of each layer, or one for all. Throws c10::Error where one is 0 or not finite.
  TwoStep(const char* name, std::vector<double> h, Start start);

  struct Coefficients {
    double a, b, c;
  };
  virtual Coefficients coefficients(int64_t l) const = 0;

  /// q <- a q + b p + c f, in place on s.q. What is lost and undoing needs goes to w.low_bits.
  virtual void advance(int64_t l, State& s, const at::Tensor& f, const kernels::Probe& probe,
                       Witness& w) const = 0;
  /// q <- (q - b p - c f) / a, in place on s.q.
  virtual void retreat(int64_t l, State& s, const at::Tensor& f, const kernels::Probe& probe,
                       const Witness& left) const = 0;

  double h(int64_t l) const { return h_[h_.size() == 1 ? 0 : static_cast<size_t>(l)]; }
  size_t n_steps() const { return h_.size(); }
  bool starts(int64_t l) const { return l == 0 && start_ == Start::Euler; }

 private:
  const char* name_;
  std::vector<double> h_;
  Start start_;
};

}  // namespace rev::schemes
