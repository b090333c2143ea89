#include "rev/schemes/leapfrog.h"

#include <cmath>

namespace rev::schemes {

Leapfrog::Leapfrog(double h, Start start) : TwoStep(start), h_(h) {
  TORCH_CHECK(std::isfinite(h) && h != 0.0, "leapfrog: h must be a number other than 0, got ", h);
}

void Leapfrog::advance(int64_t, State& s, const at::Tensor& f, const kernels::Probe& probe) const {
  kernels::reflect_(s.q, s.p, f, h_ * h_, s.bits, probe);
}

void Leapfrog::retreat(int64_t l, State& s, const at::Tensor& f,
                       const kernels::Probe& probe) const {
  advance(l, s, f, probe);
}

}  // namespace rev::schemes
