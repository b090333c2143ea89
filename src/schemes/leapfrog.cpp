#include "rev/schemes/leapfrog.h"

namespace rev::schemes {

Leapfrog::Leapfrog(double h, Start start) : TwoStep("leapfrog", {h}, start) {}

void Leapfrog::advance(int64_t l, State& s, const at::Tensor& f, const kernels::Probe& probe,
                       Witness&) const {
  kernels::reflect_(s.q, s.p, f, h(l) * h(l), s.bits, probe);
}

void Leapfrog::retreat(int64_t l, State& s, const at::Tensor& f, const kernels::Probe& probe,
                       const Witness&) const {
  kernels::reflect_(s.q, s.p, f, h(l) * h(l), s.bits, probe);
}

}  // namespace rev::schemes
