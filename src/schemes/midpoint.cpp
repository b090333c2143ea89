#include "rev/schemes/midpoint.h"

#include <cmath>

namespace rev::schemes {

Midpoint::Midpoint(double h, Start start) : TwoStep(start), h_(h) {
  TORCH_CHECK(std::isfinite(h) && h != 0.0, "midpoint: h must be a number other than 0, got ", h);
}

void Midpoint::advance(int64_t, State& s, const at::Tensor& f, const kernels::Probe& probe) const {
  kernels::update_(s.q, f, 2.0 * h_, s.bits, probe);
}

void Midpoint::retreat(int64_t, State& s, const at::Tensor& f, const kernels::Probe& probe) const {
  kernels::update_(s.q, f, -2.0 * h_, s.bits, probe);
}

}  // namespace rev::schemes
