#include "rev/engine/jacobian.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros_like.h>
#include <cmath>
#include <limits>

#include "engine/replay.h"
#include "rev/base/autocast_state.h"
#include "rev/base/rng_state.h"

namespace rev::engine {
namespace {

using at::Tensor;
using at::TensorList;

// Of all tensors as one vector, in float64.
double euclidean(TensorList v) {
  double squares = 0;
  for (const Tensor& t : v) squares += t.to(at::kDouble).square().sum().item<double>();
  return std::sqrt(squares);
}

std::vector<Tensor> random_unit(TensorList like, uint64_t seed) {
  const at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  std::vector<Tensor> v;
  for (const Tensor& t : like) {
    v.push_back(at::randn(t.sizes(), generator, at::kDouble).to(t.options()));
  }
  const double length = euclidean(v);
  for (Tensor& t : v) t.div_(length);
  return v;
}

// The step of a central difference along a unit vector: its error is of the order of step^2 +
// rounding / step, both relative to the length of x.
double difference_step(TensorList x) {
  const double eps = x[0].scalar_type() == at::kDouble ? std::numeric_limits<double>::epsilon()
                                                       : std::numeric_limits<float>::epsilon();
  const double length = euclidean(x);
  return std::cbrt(eps) * (length > 0 ? length : 1.0);
}

// Fields in a pass that measures them.
class Measured final : public schemes::Fields {
 public:
  Measured(const std::vector<FieldPtr>& fields, int64_t iterations, uint64_t seed)
      : fields_(fields), iterations_(iterations), seed_(seed), norms_(fields.size()) {}

  Tensor operator()(int64_t k, TensorList x) const override {
    const auto i = static_cast<size_t>(k);
    const BufferGuard once(fields_[i]->buffers());
    norms_[i] = jacobian_norm(*fields_[i], x, iterations_, seed_);
    return fields_[i]->forward(x);
  }

  const std::vector<double>& norms() const { return norms_; }

 private:
  const std::vector<FieldPtr>& fields_;
  int64_t iterations_;
  uint64_t seed_;
  mutable std::vector<double> norms_;
};

}  // namespace

double jacobian_norm(Field& f, TensorList x, int64_t iterations, uint64_t seed) {
  TORCH_CHECK(!x.empty() && iterations >= 1,
              "jacobian_norm: at least one input and one iteration are needed, got ", x.size(),
              " and ", iterations);
  const c10::Device device = x[0].device();
  const at::NoGradGuard no_graph;
  const base::AutocastGuard exact({device.type(), false});
  const base::RngState rng = base::RngState::capture(device);
  const base::RngGuard restore(device);
  const BufferGuard buffers(f.buffers());
  const double h = difference_step(x);
  std::vector<Tensor> v = random_unit(x, seed);
  const auto at_step = [&](double step) {
    std::vector<Tensor> moved;
    for (size_t i = 0; i < x.size(); ++i) moved.push_back(x[i] + v[i] * step);
    rng.restore();
    return f.forward(moved).to(at::kDouble);
  };

  rng.restore();
  const Linearised here = f.linearise(x);
  double sigma = 0;
  for (int64_t i = 0; i < iterations; ++i) {
    const Tensor u = at_step(h) - at_step(-h);  // 2 h J v
    const double length = euclidean(u);
    if (length == 0) return 0;
    v = here.pullback(u / length, /*retain=*/true);
    v.resize(x.size());
    for (size_t j = 0; j < v.size(); ++j) {
      if (!v[j].defined()) v[j] = at::zeros_like(x[j]);
    }
    sigma = euclidean(v);
    if (!(sigma > 0)) return sigma;
    for (Tensor& t : v) t = t / sigma;
  }
  return sigma;
}

std::vector<std::vector<double>> jacobian_norms(const Stack& stack, const Tensor& x,
                                                int64_t iterations, uint64_t seed) {
  const at::NoGradGuard no_graph;
  const base::AutocastGuard exact({x.device().type(), false});
  std::vector<std::vector<double>> norms;
  schemes::State s = stack.scheme().begin(x, stack.state());
  schemes::Witness nothing;
  for (int64_t l = 0; l < stack.n_layers(); ++l) {
    const Measured fields(stack.fields(l), iterations, seed);
    stack.scheme().step(l, s, fields, nothing);
    norms.push_back(fields.norms());
  }
  return norms;
}

}  // namespace rev::engine
