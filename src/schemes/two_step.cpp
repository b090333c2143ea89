#include "rev/schemes/two_step.h"

#include <cmath>
#include <utility>

#include "schemes/streams.h"

namespace rev::schemes {

using at::Tensor;

TwoStep::TwoStep(const char* name, std::vector<double> h, Start start)
    : name_(name), h_(std::move(h)), start_(start) {
  TORCH_CHECK(!h_.empty(), name, ": expected a step h, got none");
  for (const double step : h_) {
    TORCH_CHECK(std::isfinite(step) && step != 0.0, name, ": h must be a number other than 0, got ",
                step);
  }
}

State TwoStep::begin(const Tensor& x, const StateOptions& options, const Tensor& saturated) const {
  State s;
  s.bits = options.bits;
  s.p = kernels::encode(x, options.dtype, options.bits, {{}, {}, flag(saturated, 1)});
  if (start_ == Start::Copy) s.q = s.p.clone();
  return s;
}

Tensor TwoStep::begin_adjoint(const State& g) const {
  return start_ == Start::Copy ? sum(g.q, g.p) : g.p;
}

void TwoStep::step(int64_t l, State& s, const Fields& f, Witness& w) const {
  const Tensor increment = f(0, {value(s, s.p)});
  if (starts(l)) {
    s.q = s.p;
    s.p = s.q.clone();
    if (w.wanted) w.sums_p = new_sums(s.p);
    kernels::update_(s.p, increment, 1.0, s.bits, {{}, w.sums_p, flag(w, 1)});
    return;
  }
  own_(s.q);
  advance(l, s, increment, before_step(w, &Witness::sums_q, s.q, 1), w);
  std::swap(s.q, s.p);
}

void TwoStep::evaluate(int64_t, State s, const Fields& f) const { f(0, {value(s, s.p)}); }

State TwoStep::needed(const State& s) const {
  State p;
  p.p = s.p;
  p.bits = s.bits;
  return p;
}

void TwoStep::undo(int64_t l, State& s, const Fields& f, const Witness& left,
                   Witness& rebuilt) const {
  if (starts(l)) {  // p^(0) is here; the step is taken once more to prove the field
    s.p = std::exchange(s.q, Tensor());
    const Tensor increment = f(0, {value(s, s.p)});
    if (left.sums_p.defined()) {
      Tensor again = s.p.clone();
      rebuilt.sums_p = new_sums(again);
      kernels::update_(again, increment, 1.0, s.bits, {{}, rebuilt.sums_p, {}});
    }
    return;
  }
  std::swap(s.q, s.p);
  const Tensor increment = f(0, {value(s, s.p)});
  own_(s.q);
  retreat(l, s, increment, after_undo(left, rebuilt, &Witness::sums_q, s.q), left);
}

void TwoStep::adjoint(int64_t l, State& g, const Pullback& df) const {
  const Coefficients k = starts(l) ? Coefficients{1.0, 0.0, 1.0} : coefficients(l);
  const Tensor newest = g.p;
  const Tensor through_field = df(0, times(k.c, newest))[0];
  if (starts(l)) {
    g.p = sum(sum(g.q, newest), through_field);
    g.q = Tensor();
    return;
  }
  g.p = sum(sum(g.q, k.b == 0.0 ? Tensor() : times(k.b, newest)), through_field);
  g.q = times(k.a, newest);
}

std::optional<double> TwoStep::stable_norm(int64_t l) const {
  if (starts(l)) return std::nullopt;
  const Coefficients k = coefficients(l);
  return (1.0 + std::fabs(k.a) + std::fabs(k.b)) / std::fabs(k.c);
}

}  // namespace rev::schemes
