#include "rev/schemes/scheme.h"

#include "schemes/streams.h"

namespace rev::schemes {

using at::Tensor;

std::function<Tensor(const Tensor&, const Tensor&)> Fields::token_map(int64_t k, const Tensor&,
                                                                      const Tensor&) const {
  TORCH_CHECK(false, "field ", k, " is not given as a map on single tokens here");
}

Tensor Scheme::finish(const State& s) const { return value_copy(s, s.p); }

State Scheme::finish_adjoint(const Tensor& grad) const {
  State g;
  g.p = grad;
  return g;
}

}  // namespace rev::schemes
