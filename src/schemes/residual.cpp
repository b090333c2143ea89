#include "rev/schemes/residual.h"

#include "schemes/streams.h"

namespace rev::schemes {

using at::Tensor;

State Residual::begin(const Tensor& x, const StateOptions& options, const Tensor& saturated) const {
  State s;
  s.bits = options.bits;
  s.p = kernels::encode(x, options.dtype, options.bits, {{}, {}, flag(saturated, 1)});
  return s;
}

void Residual::step(int64_t, State& s, const Fields& f, Witness& w) const {
  const Tensor increment = f(0, {value(s, s.p)});
  own_(s.p);
  kernels::update_(s.p, increment, 1.0, s.bits, {{}, {}, flag(w, 1)});
}

void Residual::evaluate(int64_t, State s, const Fields& f) const { f(0, {value(s, s.p)}); }

void Residual::undo(int64_t l, State&, const Fields&, const Witness&, Witness&) const {
  TORCH_CHECK(false, "residual: layer ", l, " has no inverse; store or checkpoint it");
}

void Residual::adjoint(int64_t, State& g, const Pullback& df) const {
  g.p = sum(g.p, df(0, g.p)[0]);
}

}  // namespace rev::schemes
