#include "engine/walk.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <algorithm>
#include <unordered_map>
#include <utility>

#include "engine/linearise.h"
#include "engine/replay.h"
#include "rev/base/range.h"

namespace rev::engine {

using at::Tensor;
using schemes::State;
using schemes::Witness;

namespace {

int64_t bytes(const Tensor& t) { return t.defined() ? static_cast<int64_t>(t.nbytes()) : 0; }

// The state that x becomes: step(l, s, saturated) takes it through layer l.
template <class Step>
State run(const schemes::Scheme& scheme, size_t n_layers, const schemes::StateOptions& options,
          const Verdict& verdict, const Tensor& x, const Step& step) {
  State s = scheme.begin(x, options, verdict.saturated(-1));
  for (size_t l = 0; l < n_layers; ++l) {
    const auto layer = static_cast<int64_t>(l);
    const base::Range range("forward", layer);
    step(l, s, verdict.saturated(layer));
  }
  return s;
}

// How often a tensor was changed in place; inference mode does not count it.
int64_t version(const Tensor& t) { return t.is_inference() ? 0 : t._version(); }

// A field's value at x, which it must leave as it is: with float states x is the state itself.
Tensor evaluate(Field& field, size_t layer, at::TensorList x) {
  std::vector<int64_t> before;
  for (const Tensor& t : x) before.push_back(version(t));
  Tensor y = field.forward(x);
  for (size_t i = 0; i < x.size(); ++i) {
    TORCH_CHECK(version(x[i]) == before[i], "stack: a field of layer ", layer,
                " changed its input in place; it must leave it as it is");
  }
  return y;
}

// Field k's value at x and its pullback, held to a gradient for each input and parameter.
Linearised evaluate_with_graph(const Layer& layer, size_t l, size_t k, at::TensorList x,
                               bool need_value = true) {
  Linearised graph = layer.fields[k]->linearise(x, need_value);
  graph.pullback = [pullback = std::move(graph.pullback), l, k, n_inputs = x.size(),
                    n_parameters = layer.slots[k].size()](const Tensor& grad, bool retain) {
    std::vector<Tensor> found = pullback(grad, retain);
    TORCH_CHECK(found.size() == n_inputs + n_parameters, "stack: layer ", l, ", field ", k,
                ": expected a gradient for each of ", n_inputs, " inputs and ", n_parameters,
                " parameters, got ", found.size());
    return found;
  };
  return graph;
}

// Fields as they are called where no gradient is wanted.
class Plain final : public schemes::Fields {
 public:
  // checks: nothing that is listed requires a gradient, and nothing that is not listed may.
  Plain(const Layer& layer, size_t l, bool checks) : layer_(layer), l_(l), checks_(checks) {}

  Tensor operator()(int64_t k, at::TensorList x) const override {
    Field& field = *layer_.fields[static_cast<size_t>(k)];
    if (!checks_) return evaluate(field, l_, x);
    const at::AutoGradMode with_graph(true);  // which stays empty
    Tensor y = evaluate(field, l_, x);
    check_reads_nothing_else(c10::str("stack: a field of layer ", l_), y);
    return y;
  }

 private:
  const Layer& layer_;
  size_t l_;
  bool checks_;
};

}  // namespace

// Fields in forward: with a graph that is kept, or without one and with the generators' state kept.
class Walk::Forward final : public schemes::Fields {
 public:
  Forward(const Walk& walk, size_t l, Trace& trace, base::RngState& last)
      : layer_(walk.layers_[l]), l_(l), device_(walk.device_), trace_(trace), last_(last) {
    const size_t n_fields = layer_.fields.size();
    (layer_.memory == Memory::Store ? trace_.graphs.resize(n_fields) : trace_.rng.resize(n_fields));
  }

  Tensor operator()(int64_t k, at::TensorList x) const override {
    const auto i = static_cast<size_t>(k);
    if (layer_.memory == Memory::Store) {
      trace_.graphs[i] = evaluate_with_graph(layer_, l_, i, x);
      return trace_.graphs[i].value;
    }
    last_ = base::RngState::capture(device_, last_);
    trace_.rng[i] = last_;
    return evaluate(*layer_.fields[i], l_, x);
  }

 private:
  const Layer& layer_;
  size_t l_;
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
        l_(l),
        trace_(walk.traces_[l]),
        graphs_(layer_.fields.size()) {}

  Tensor operator()(int64_t k, at::TensorList x) const override {
    const auto i = static_cast<size_t>(k);
    // A checkpointed layer's last value is not read: its input is at hand.
    const bool need_value = layer_.memory == Memory::Invert || i + 1 < layer_.fields.size();
    const BufferGuard once(layer_.fields[i]->buffers());
    graphs_[i] = replay(trace_.rng[i], walk_.autocast_, walk_.device_,
                        [&] { return evaluate_with_graph(layer_, l_, i, x, need_value); });
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
  size_t l_;
  const Trace& trace_;
  mutable std::vector<Linearised> graphs_;
};

Walk::Walk(std::shared_ptr<const schemes::Scheme> scheme, std::vector<Layer> layers,
           schemes::StateOptions options, Sink sink, std::shared_ptr<Report> report,
           std::shared_ptr<Verdict> deferred)
    : scheme_(std::move(scheme)),
      layers_(std::move(layers)),
      options_(options),
      sink_(std::move(sink)),
      report_(std::move(report)),
      verdict_(std::move(deferred)),
      is_deferred_(verdict_ != nullptr) {
  std::unordered_map<at::TensorImpl*, size_t> place;
  for (size_t l = 0; l < layers_.size(); ++l) {
    Layer& layer = layers_[l];
    for (const FieldPtr& field : layer.fields) {
      std::vector<size_t>& slots = layer.slots.emplace_back();
      for (const Tensor& p : field->parameters()) {
        TORCH_CHECK(p.defined(), "stack: a field of layer ", l,
                    " lists a tensor that is undefined: leave it out");
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
  traces_.resize(layers_.size());
  versions_.clear();
  for (const Tensor& p : parameters_) versions_.push_back(p._version());

  if (!is_deferred_) {
    verdict_ = std::make_shared<Verdict>(*scheme_, options_, layers_.size(), device_);
  }
  base::RngState last;
  State s = run(*scheme_, layers_.size(), options_, *verdict_, x,
                [&](size_t l, State& state, const Tensor& saturated) {
                  Trace& trace = traces_[l];
                  trace.witness.wanted = layers_[l].memory == Memory::Invert;
                  trace.witness.saturated = saturated;
                  keep_input(l, state);  // steps copy before they write
                  scheme_->step(static_cast<int64_t>(l), state, Forward(*this, l, trace, last),
                                trace.witness);
                });
  if (!is_deferred_) verdict_->check_saturation();
  Tensor y = scheme_->finish(s);
  if (layers_.back().memory == Memory::Invert) final_ = std::move(s);
  report_forward();
  return y;
}

void Walk::report_forward() {
  int64_t kept = verdict_->bytes();
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

  verdict_->compare(layer, 'p', left.sums_p, rebuilt.sums_p, rebuilt.contraction);
  verdict_->compare(layer, 'q', left.sums_q, rebuilt.sums_q, rebuilt.contraction);
  // On the CPU nobody waits for it; a sink must not be given what is wrong.
  if (!is_deferred_ && (device_.is_cpu() || sink_)) verdict_->check_rows(layer, layer, *report_);
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
    const base::Range range("backward", layer);
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
  if (!is_deferred_ && !device_.is_cpu()) {
    verdict_->check_rows(0, static_cast<int64_t>(layers_.size()) - 1, *report_);
  }
  return gradients;
}

Tensor infer(const schemes::Scheme& scheme, const std::vector<Layer>& layers,
             const schemes::StateOptions& options, const std::shared_ptr<Verdict>& deferred,
             const Tensor& x) {
  const bool checks = at::GradMode::is_enabled();
  const at::NoGradGuard no_graph;
  const auto verdict =
      deferred ? deferred : std::make_shared<Verdict>(scheme, options, layers.size(), x.device());
  const State s =
      run(scheme, layers.size(), options, *verdict, x,
          [&](size_t l, State& state, const Tensor& saturated) {
            Witness witness;
            witness.saturated = saturated;
            scheme.step(static_cast<int64_t>(l), state, Plain(layers[l], l, checks), witness);
          });
  if (!deferred) verdict->check_saturation();
  return scheme.finish(s);
}

}  // namespace rev::engine
