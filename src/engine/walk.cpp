#include "engine/walk.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/zeros.h>
#include <algorithm>
#include <unordered_map>
#include <utility>

#include "engine/replay.h"
#include "rev/base/error.h"
#include "rev/kernels/grid.h"

namespace rev::engine {

using at::Tensor;
using schemes::State;
using schemes::Witness;

namespace {

int64_t bytes(const Tensor& t) { return t.defined() ? static_cast<int64_t>(t.nbytes()) : 0; }

// Where a state left the grid's range, as the steps find it.
class Saturation {
 public:
  Saturation(size_t n_layers, c10::Device device)
      : flags_(at::zeros({static_cast<int64_t>(n_layers) + 1, 2},
                         at::TensorOptions(at::kInt).device(device))) {}

  /// Witness::saturated of a layer, or, -1, of the input.
  Tensor of(int64_t layer) const { return flags_[layer + 1]; }

  void check(const schemes::Scheme& scheme, const schemes::StateOptions& options) const {
    const Tensor flags = flags_.cpu();
    const auto* begin = flags.const_data_ptr<int32_t>();
    const auto* end = begin + flags.numel();
    const auto* first = std::find_if(begin, end, [](int32_t flag) { return flag != 0; });
    if (first == end) return;
    const auto layer = static_cast<int64_t>(first - begin) / 2 - 1;
    const char stream = (first - begin) % 2 == 0 ? 'q' : 'p';
    const std::string where =
        layer < 0 ? "the input"
                  : c10::str("the state after layer ", layer, ", stream ", stream, ",");
    throw base::Saturated(layer, stream,
                          c10::str(scheme.name(), ": ", where, " left the grid's range of +-2^",
                                   31 - options.bits, " or is not a number"));
  }

 private:
  Tensor flags_;
};

// Fields as they are called where no gradient is wanted.
class Plain final : public schemes::Fields {
 public:
  explicit Plain(const Layer& layer) : layer_(layer) {}

  Tensor operator()(int64_t k, at::TensorList x) const override {
    return layer_.fields[static_cast<size_t>(k)]->forward(x);
  }

 private:
  const Layer& layer_;
};

}  // namespace

// Fields in forward: with a graph that is kept, or without one and with the generators' state kept.
class Walk::Forward final : public schemes::Fields {
 public:
  Forward(const Walk& walk, size_t l, Trace& trace, base::RngState& last)
      : layer_(walk.layers_[l]), device_(walk.device_), trace_(trace), last_(last) {
    const size_t n_fields = layer_.fields.size();
    (layer_.memory == Memory::Store ? trace_.graphs.resize(n_fields) : trace_.rng.resize(n_fields));
  }

  Tensor operator()(int64_t k, at::TensorList x) const override {
    Field& field = *layer_.fields[static_cast<size_t>(k)];
    const auto i = static_cast<size_t>(k);
    if (layer_.memory == Memory::Store) {
      trace_.graphs[i] = field.linearise(x);
      return trace_.graphs[i].value;
    }
    last_ = base::RngState::capture(device_, last_);
    trace_.rng[i] = last_;
    return field.forward(x);
  }

 private:
  const Layer& layer_;
  c10::Device device_;
  Trace& trace_;
  base::RngState& last_;
};

// Fields in backward: evaluated once more with a graph, under forward's generators and autocast.
class Walk::Backward final : public schemes::Fields {
 public:
  Backward(const Walk& walk, size_t l)
      : walk_(walk),
        layer_(walk.layers_[l]),
        trace_(walk.traces_[l]),
        graphs_(layer_.fields.size()) {}

  Tensor operator()(int64_t k, at::TensorList x) const override {
    const auto i = static_cast<size_t>(k);
    // A checkpointed layer's last value is not read: its input is at hand.
    const bool need_value = layer_.memory == Memory::Invert || i + 1 < layer_.fields.size();
    const BufferGuard once(layer_.fields[i]->buffers());
    graphs_[i] = replay(trace_.rng[i], walk_.autocast_, walk_.device_,
                        [&] { return layer_.fields[i]->linearise(x, need_value); });
    return graphs_[i].value;
  }

  TokenMap token_map(int64_t k, const Tensor& x1_like, const Tensor& x2) const override {
    const auto i = static_cast<size_t>(k);
    const auto here = [rng = trace_.rng[i], autocast = walk_.autocast_, device = walk_.device_](
                          const auto& fn) { return replay(rng, autocast, device, fn); };
    const TokenMap map = here([&] { return layer_.fields[i]->token_map(x1_like, x2); });
    return [here, map, field = layer_.fields[i]](const Tensor& rows, const Tensor& index) {
      const BufferGuard once(field->buffers());
      return here([&] { return map(rows, index); });
    };
  }

  /// What the last evaluations left, by field.
  const std::vector<Linearised>& graphs() const { return graphs_; }

 private:
  const Walk& walk_;
  const Layer& layer_;
  const Trace& trace_;
  mutable std::vector<Linearised> graphs_;
};

Walk::Walk(std::shared_ptr<const schemes::Scheme> scheme, std::vector<Layer> layers,
           schemes::StateOptions options, Sink sink, std::shared_ptr<Report> report)
    : scheme_(std::move(scheme)),
      layers_(std::move(layers)),
      options_(options),
      sink_(std::move(sink)),
      report_(std::move(report)) {
  std::unordered_map<at::TensorImpl*, size_t> place;
  for (size_t l = 0; l < layers_.size(); ++l) {
    Layer& layer = layers_[l];
    for (const FieldPtr& field : layer.fields) {
      std::vector<size_t>& slots = layer.slots.emplace_back();
      for (const Tensor& p : field->parameters()) {
        const auto [found, is_new] = place.try_emplace(p.unsafeGetTensorImpl(), parameters_.size());
        if (is_new) {
          parameters_.push_back(p);
          last_use_.push_back(l);
        }
        slots.push_back(found->second);
      }
    }
  }
}

// Keeps layer l's input for backward, where it cannot be rebuilt from the layer's output.
void Walk::keep_input(size_t l, const State& s) {
  const Memory memory = layers_[l].memory;
  const bool inverts_below = l > 0 && layers_[l - 1].memory == Memory::Invert;
  if (memory != Memory::Invert && inverts_below) {
    traces_[l].input = s;
  } else if (memory == Memory::Checkpoint) {
    traces_[l].input = scheme_->needed(s);
  }
}

Tensor Walk::forward(const Tensor& x) {
  device_ = x.device();
  autocast_ = base::AutocastState::capture(device_.type());
  const base::AutocastGuard cast(
      autocast_);  // its cache must not outlive a forward without a graph
  const Saturation saturation(layers_.size(), x.device());
  traces_.resize(layers_.size());
  versions_.clear();
  for (const Tensor& p : parameters_) versions_.push_back(p._version());

  State s = scheme_->begin(x, options_, saturation.of(-1));
  base::RngState last;
  for (size_t l = 0; l < layers_.size(); ++l) {
    Trace& trace = traces_[l];
    trace.witness.wanted = layers_[l].memory == Memory::Invert;
    trace.witness.saturated = saturation.of(static_cast<int64_t>(l));
    keep_input(l, s);  // steps copy before they write
    scheme_->step(static_cast<int64_t>(l), s, Forward(*this, l, trace, last), trace.witness);
  }
  saturation.check(*scheme_, options_);
  Tensor y = scheme_->finish(s);
  if (layers_.back().memory == Memory::Invert) final_ = std::move(s);
  report_forward();
  return y;
}

void Walk::report_forward() {
  int64_t kept = 0;
  for (const Trace& trace : traces_) {
    kept +=
        bytes(trace.witness.sums_q) + bytes(trace.witness.sums_p) + bytes(trace.witness.low_bits);
    for (const base::RngState& rng : trace.rng) kept += rng.own_bytes();
  }
  report_->witness_bytes = std::max(report_->witness_bytes, kept);
}

// The state before layer l from the one after it, proved by forward's row sums.
void Walk::rebuild(size_t l, State& s, const Backward& fields) {
  const auto layer = static_cast<int64_t>(l);
  const Witness& left = traces_[l].witness;
  Witness rebuilt;
  scheme_->undo(layer, s, fields, left, rebuilt);
  report_->contraction = std::max(report_->contraction, rebuilt.contraction);
  report_->evaluations = std::max(report_->evaluations, rebuilt.evaluations);

  const auto check = [&](char stream, const Tensor& was, const Tensor& is) {
    if (!was.defined()) return;
    const int64_t differing = kernels::count_differing(was, is);
    report_->rows_checked += was.numel();
    report_->rows_differing += differing;
    if (differing == 0 || options_.dtype != at::kInt) return;
    throw base::NotInvertible(
        base::NotInvertible::Cause::Field, layer, differing, rebuilt.contraction,
        c10::str(scheme_->name(), ": layer ", layer, ", stream ", stream, ": ", differing, " of ",
                 was.numel(),
                 " rows were not rebuilt bit for bit; a field gave other bits when it was "
                 "evaluated again: it counts in place, draws from a generator of its own, was "
                 "changed since forward, or ran with another number of threads"));
  };
  check('p', left.sums_p, rebuilt.sums_p);  // first: without it q may not have been solved for
  check('q', left.sums_q, rebuilt.sums_q);
}

void Walk::check_unchanged(size_t l) const {
  for (const std::vector<size_t>& slots : layers_[l].slots) {
    for (const size_t slot : slots) {
      TORCH_CHECK(parameters_[slot]._version() == versions_[slot], "stack: a parameter of layer ",
                  l, " of shape ", parameters_[slot].sizes(),
                  " was changed in place between forward and backward");
    }
  }
}

void Walk::take_gradients(size_t l, int64_t k, const std::vector<Tensor>& found,
                          std::vector<Tensor>& gradients) const {
  const std::vector<size_t>& slots = layers_[l].slots[static_cast<size_t>(k)];
  const size_t n_inputs = found.size() - slots.size();
  for (size_t i = 0; i < slots.size(); ++i) {
    const Tensor& g = found[n_inputs + i];
    Tensor& sum = gradients[slots[i] + 1];
    if (g.defined()) sum = sum.defined() ? sum + g : g;
  }
}

void Walk::give_to_sink(size_t l, std::vector<Tensor>& gradients) const {
  if (!sink_) return;
  // A parameter that several layers read is final at the lowest of them.
  std::vector<size_t> places;
  std::vector<Tensor> final_gradients;
  for (const std::vector<size_t>& slots : layers_[l].slots) {
    for (const size_t slot : slots) {
      if (std::find(places.begin(), places.end(), slot) != places.end()) continue;
      places.push_back(slot);
      final_gradients.push_back(last_use_[slot] == l ? gradients[slot + 1] : Tensor());
    }
  }
  sink_(static_cast<int64_t>(l), final_gradients);
  for (size_t i = 0; i < places.size(); ++i) {
    if (last_use_[places[i]] == l) gradients[places[i] + 1] = final_gradients[i];
  }
}

std::vector<Tensor> Walk::backward(const Tensor& grad, bool keep) {
  TORCH_CHECK(
      !spent_,
      "backward through a stack a second time: what it kept was freed; pass retain_graph=true "
      "the first time");
  spent_ = !keep;
  const at::NoGradGuard no_graph;
  std::vector<Tensor> gradients(parameters_.size() + 1);
  State g = scheme_->finish_adjoint(grad);
  std::optional<State> s = keep ? final_ : std::exchange(final_, std::nullopt);

  for (size_t l = layers_.size(); l-- > 0;) {
    const auto layer = static_cast<int64_t>(l);
    Trace& trace = traces_[l];
    if (layers_[l].memory != Memory::Store) check_unchanged(l);  // a stored graph checks by itself
    const Backward fields(*this, l);
    const std::vector<Linearised>* graphs = &fields.graphs();
    switch (layers_[l].memory) {
      case Memory::Store:
        graphs = &trace.graphs;
        s = trace.input;
        break;
      case Memory::Checkpoint:
        s = trace.input;
        scheme_->evaluate(layer, *s, fields);
        break;
      case Memory::Invert:
        rebuild(l, *s, fields);
        break;
    }
    scheme_->adjoint(layer, g, [&](int64_t k, const Tensor& grad_value) {
      std::vector<Tensor> found = (*graphs)[static_cast<size_t>(k)].pullback(grad_value, keep);
      take_gradients(l, k, found, gradients);
      return found;
    });
    if (!keep) trace = {};
    give_to_sink(l, gradients);
  }
  gradients[0] = scheme_->begin_adjoint(g);

  return gradients;
}

Tensor infer(const schemes::Scheme& scheme, const std::vector<Layer>& layers,
             const schemes::StateOptions& options, const Tensor& x) {
  const at::NoGradGuard no_graph;
  const Saturation saturation(layers.size(), x.device());
  State s = scheme.begin(x, options, saturation.of(-1));
  for (size_t l = 0; l < layers.size(); ++l) {
    const auto layer = static_cast<int64_t>(l);
    Witness witness;
    witness.saturated = saturation.of(layer);
    scheme.step(layer, s, Plain(layers[l]), witness);
  }
  saturation.check(scheme, options);
  return scheme.finish(s);
}

}  // namespace rev::engine
