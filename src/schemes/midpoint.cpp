#include "rev/schemes/midpoint.h"

namespace rev::schemes {

Midpoint::Midpoint(double h, Start start) : TwoStep("midpoint", {h}, start) {}

void Midpoint::advance(int64_t l, State& s, const at::Tensor& f, const kernels::Probe& probe,
                       Witness&) const {
  kernels::update_(s.q, f, 2.0 * h(l), s.bits, probe);
}

void Midpoint::retreat(int64_t l, State& s, const at::Tensor& f, const kernels::Probe& probe,
                       const Witness&) const {
  kernels::update_(s.q, f, -2.0 * h(l), s.bits, probe);
}

}  // namespace rev::schemes
