#include "rev/schemes/midpoint.h"

namespace rev::schemes {

Midpoint::Midpoint(double h, Start start) : TwoStep("midpoint", h, start) {}

void Midpoint::advance(int64_t, State& s, const at::Tensor& f, const kernels::Probe& probe) const {
  kernels::update_(s.q, f, 2.0 * h(), s.bits, probe);
}

void Midpoint::retreat(int64_t, State& s, const at::Tensor& f, const kernels::Probe& probe) const {
  kernels::update_(s.q, f, -2.0 * h(), s.bits, probe);
}

}  // namespace rev::schemes
