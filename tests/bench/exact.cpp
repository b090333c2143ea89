#include <fmt/format.h>
#include <torch/torch.h>

#include "bench/commands.h"
#include "rev/base/autocast_state.h"
#include "rev/base/error.h"
#include "rev/kernels/grid.h"
#include "rev/kernels/reconstruction.h"
#include "rev/models/coupling.h"
#include "rev/schemes/midpoint_a.h"

namespace rev::bench {
namespace {

using at::Tensor;
using schemes::State;
using schemes::Witness;

// One layer's fields: a two-layer perceptron behind a norm, its weights a function of layer and
// field.
class Perceptrons final : public schemes::Fields {
 public:
  Perceptrons(const std::vector<Tensor>& weights, int64_t layer)
      : weights_(weights), layer_(layer) {}

  Tensor operator()(int64_t k, at::TensorList x) const override {
    if (x.size() == 1) return map(k, x[0], true);
    return map(k, 0.3 * x[0] + x[1], false);
  }

  std::function<Tensor(const Tensor&, const Tensor&)> token_map(int64_t k, const Tensor&,
                                                                const Tensor& x2) const override {
    const Tensor rows2 = x2.reshape({-1, x2.size(-1)});
    return [this, k, rows2](const Tensor& rows, const Tensor& index) {
      return map(k, 0.3 * rows + rows2.index_select(0, index), false);
    };
  }

 private:
  // A field that is iterated gives its value in float32: see schemes/revffn.h.
  Tensor map(int64_t k, const Tensor& x, bool autocast_to_the_end) const {
    const auto n_weights = static_cast<int64_t>(weights_.size());
    const Tensor& w = weights_[static_cast<size_t>((2 * layer_ + k) % n_weights)];
    const Tensor hidden = at::tanh(at::linear(at::layer_norm(x, {x.size(-1)}), w));
    const Tensor back = w.t().contiguous();
    if (autocast_to_the_end) return at::linear(hidden, back);
    const base::AutocastGuard full_precision({at::kCPU, false, at::kBFloat16});
    return at::linear(hidden.to(back.scalar_type()), back);
  }

  const std::vector<Tensor>& weights_;
  int64_t layer_;
};

std::shared_ptr<const schemes::Scheme> scheme_of(const std::string& name, int64_t depth) {
  if (name == "midpoint-a") {  // the planned list: each second |a| the reciprocal of the one before
    return std::make_shared<schemes::MidpointA>(schemes::MidpointA::draw_pairs(depth, 1), 0.5);
  }
  models::Coupling coupling;
  coupling.scheme = name;
  return models::make_scheme(coupling, depth);
}

int64_t rows_differing(const Tensor& a, const Tensor& b) {
  return kernels::read_row_record(kernels::compare_rows(a, b)).differing;
}

// How far the streams of a rebuilt input lie from those of the input, at most.
double worst_error(const State& input, const State& rebuilt) {
  double worst = 0;
  for (const auto stream : {&State::q, &State::p}) {
    if (!(input.*stream).defined()) continue;
    const Tensor off =
        kernels::decode(rebuilt.*stream, rebuilt.bits) - kernels::decode(input.*stream, input.bits);
    worst = std::max(worst, off.abs().max().item<double>());
  }
  return worst;
}

}  // namespace

Table exact(const ExactOptions& options) {
  Table table{
      {"scheme", "state", "depth", "rows checked", "rows differing", "worst |x - rebuilt x|"}, {}};
  const at::NoGradGuard no_grad;
  for (const std::string& name : options.schemes) {
    const int64_t width = name == "revffn" ? options.channels / 2 : options.channels;
    torch::manual_seed(1);
    std::vector<Tensor> weights;
    for (int i = 0; i < 16; ++i)
      weights.push_back(torch::randn({2 * width, width}) * (0.5 / std::sqrt(width)));
    const Tensor x = torch::randn({2, options.tokens, options.channels});
    const base::AutocastGuard cast({at::kCPU, options.bfloat16, at::kBFloat16});

    for (const auto dtype : {at::kInt, at::kFloat}) {
      const auto scheme = scheme_of(name, options.depth);
      const schemes::StateOptions state = scheme->plan(options.depth, {dtype, 16});
      State s = scheme->begin(x, state);
      const State input = s;  // steps copy before they write
      std::vector<Witness> left(static_cast<size_t>(options.depth));
      for (int64_t l = 0; l < options.depth; ++l) {
        left[static_cast<size_t>(l)].wanted = true;
        scheme->step(l, s, Perceptrons(weights, l), left[static_cast<size_t>(l)]);
      }
      int64_t checked = 0, differing = 0;
      std::string worst;
      try {
        for (int64_t l = options.depth; l-- > 0;) {
          Witness rebuilt;
          const Witness& was = left[static_cast<size_t>(l)];
          scheme->undo(l, s, Perceptrons(weights, l), was, rebuilt);
          for (const auto sums : {&Witness::sums_q, &Witness::sums_p}) {
            if (!(was.*sums).defined()) continue;
            checked += (was.*sums).numel();
            differing += rows_differing(was.*sums, rebuilt.*sums);
          }
        }
        const double error = worst_error(input, s);
        if (dtype == at::kInt && error != 0) {
          throw std::runtime_error(
              fmt::format("exact: {}: the rebuilt input is off by {} on the grid", name, error));
        }
        worst = fmt::format("{:.3g}", error);
      } catch (const base::NotInvertible& error) {
        if (dtype == at::kInt) throw;
        worst = fmt::format("not invertible at layer {}", error.layer());
      }
      if (dtype == at::kInt && differing != 0) {
        throw std::runtime_error(
            fmt::format("exact: {}: {} of {} rows differ on the grid", name, differing, checked));
      }
      table.rows.push_back({name, dtype == at::kInt ? "grid" : "float32",
                            std::to_string(options.depth), std::to_string(checked),
                            std::to_string(differing), worst});
    }
  }
  return table;
}

}  // namespace rev::bench
