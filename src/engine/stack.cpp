#include "rev/engine/stack.h"

#include <ATen/core/grad_mode.h>
#include <algorithm>
#include <c10/util/ScopeExit.h>
#include <string>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/autograd/graph_task.h>
#include <utility>

#include "engine/walk.h"
#include "rev/schemes/hamiltonian.h"
#include "rev/schemes/leapfrog.h"
#include "rev/schemes/midpoint.h"
#include "rev/schemes/midpoint_a.h"
#include "rev/schemes/residual.h"
#include "rev/schemes/revffn.h"

namespace rev::engine {

using at::Tensor;
namespace autograd = torch::autograd;

namespace {

// The node of a whole stack. The input and all parameters are inputs of the node, so that hooks,
// autograd::grad, frozen parameters and accumulation behave as for any other.
template <class Function>
struct StackFunction : autograd::Function<Function> {
  static Tensor forward(autograd::AutogradContext* ctx, const Tensor& x,
                        at::TensorList /*parameters*/, const c10::intrusive_ptr<Walk>& walk) {
    ctx->saved_data["walk"] = c10::IValue::make_capsule(walk);
    return walk->forward(x);
  }

  static autograd::variable_list backward(autograd::AutogradContext* ctx,
                                          const autograd::variable_list& grads) {
    TORCH_CHECK(!at::GradMode::is_enabled(),
                "a stack has no second derivative: call backward without create_graph");
    const auto walk = c10::static_intrusive_pointer_cast<Walk>(ctx->saved_data["walk"].toCapsule());
    autograd::variable_list gradients =
        walk->backward(grads[0], autograd::get_current_graph_task_keep_graph());
    gradients.emplace_back();  // of the walk itself
    return gradients;
  }
};

struct SchemeFunction : StackFunction<SchemeFunction> {};  // of a scheme from elsewhere
struct ResidualFunction : StackFunction<ResidualFunction> {};
struct MidpointFunction : StackFunction<MidpointFunction> {
};  // midpoint(a) too: eq 4 is eq 15's form
struct LeapfrogFunction : StackFunction<LeapfrogFunction> {};
struct HamiltonianFunction : StackFunction<HamiltonianFunction> {};
struct RevFFNFunction : StackFunction<RevFFNFunction> {};

template <class Scheme>
bool is(const schemes::Scheme& scheme) {
  return dynamic_cast<const Scheme*>(&scheme) != nullptr;
}

using Apply = Tensor (*)(const Tensor&, at::TensorList, const c10::intrusive_ptr<Walk>&);

template <class Function>
Tensor apply(const Tensor& x, at::TensorList parameters, const c10::intrusive_ptr<Walk>& walk) {
  return Function::apply(x, parameters, walk);
}

Apply function_of(const schemes::Scheme& scheme) {
  if (is<schemes::Midpoint>(scheme) || is<schemes::MidpointA>(scheme)) {
    return &apply<MidpointFunction>;
  }
  if (is<schemes::Leapfrog>(scheme)) return &apply<LeapfrogFunction>;
  if (is<schemes::Hamiltonian>(scheme)) return &apply<HamiltonianFunction>;
  if (is<schemes::RevFFN>(scheme)) return &apply<RevFFNFunction>;
  if (is<schemes::Residual>(scheme)) return &apply<ResidualFunction>;
  return &apply<SchemeFunction>;
}

std::vector<std::vector<FieldPtr>> one_each(const std::vector<FieldPtr>& fields) {
  std::vector<std::vector<FieldPtr>> layers;
  for (const FieldPtr& field : fields) layers.push_back({field});
  return layers;
}

}  // namespace

struct Stack::Impl {
  std::shared_ptr<const schemes::Scheme> scheme;
  std::vector<Layer> layers;
  StackOptions options;
  std::shared_ptr<Report> report = std::make_shared<Report>();
  std::shared_ptr<Verdict> verdict;  // of deferred checks

  // Where passes on the device leave what they find out: null where they throw by themselves.
  std::shared_ptr<Verdict> verdict_on(c10::Device device) {
    if (!options.defer_checks) return nullptr;
    if (!verdict || verdict->device() != device) {
      verdict = std::make_shared<Verdict>(*scheme, options.state, layers.size(), device);
    }
    return verdict;
  }

  Layer& layer_at(int64_t layer) {
    TORCH_CHECK(layer >= 0 && layer < static_cast<int64_t>(layers.size()),
                "stack: expected a layer from 0 to ", layers.size() - 1, ", got ", layer);
    return layers[static_cast<size_t>(layer)];
  }

  void check_memory(int64_t layer, Memory memory) const {
    TORCH_CHECK(memory != Memory::Invert || scheme->invertible(), "stack: layer ", layer,
                " of scheme ", scheme->name(), " cannot be inverted; choose store or checkpoint");
  }
};

Stack::Stack(std::shared_ptr<const schemes::Scheme> scheme,
             std::vector<std::vector<FieldPtr>> layers, StackOptions options)
    : impl_(std::make_shared<Impl>()) {
  TORCH_CHECK(scheme != nullptr, "stack: a scheme is needed, got none");
  TORCH_CHECK(!layers.empty(), "stack: at least one layer is needed, got none");
  const schemes::StateOptions& state = options.state;
  TORCH_CHECK(state.dtype == at::kInt || state.dtype == at::kFloat || state.dtype == at::kDouble,
              "stack: a state must be int32 (the grid), float32 or float64, got ", state.dtype);
  TORCH_CHECK(state.bits >= 1 && state.bits <= 30, "stack: grid bits must be 1 to 30, got ",
              state.bits);
  const auto n_fields = static_cast<size_t>(scheme->fields_per_layer());
  for (size_t l = 0; l < layers.size(); ++l) {
    TORCH_CHECK(layers[l].size() == n_fields, "stack: layer ", l, " of scheme ", scheme->name(),
                " needs ", n_fields, n_fields == 1 ? " field" : " fields", ", got ",
                layers[l].size());
    for (const FieldPtr& field : layers[l]) {
      TORCH_CHECK(field != nullptr, "stack: layer ", l, " has a field that is null");
    }
  }
  options.state = scheme->plan(static_cast<int64_t>(layers.size()), state);
  impl_->scheme = std::move(scheme);
  impl_->options = std::move(options);
  for (std::vector<FieldPtr>& fields : layers) {
    impl_->layers.push_back({impl_->options.memory, std::move(fields), {}});
  }
  for (int64_t l = 0; l < n_layers(); ++l) impl_->check_memory(l, impl_->options.memory);
}

Stack::Stack(std::shared_ptr<const schemes::Scheme> scheme, const std::vector<FieldPtr>& fields,
             StackOptions options)
    : Stack(std::move(scheme), one_each(fields), std::move(options)) {}

Tensor Stack::forward(const Tensor& x) {
  TORCH_CHECK(x.defined() && at::isFloatingType(x.scalar_type()) && x.dim() >= 1 && x.size(-1) > 0,
              "stack: expected a floating point input [..,C] with C > 0, got ",
              x.defined() ? c10::str(x.scalar_type(), " ", x.sizes()) : "none");
  const std::shared_ptr<Verdict> verdict = impl_->verdict_on(x.device());
  if (!at::GradMode::is_enabled()) {
    return infer(*impl_->scheme, impl_->layers, impl_->options.state, verdict, x);
  }
  auto walk = c10::make_intrusive<Walk>(impl_->scheme, impl_->layers, impl_->options.state,
                                        impl_->options.sink, impl_->report, verdict);
  const std::vector<Tensor>& parameters = walk->parameters();
  for (const Tensor& p : parameters) {
    TORCH_CHECK(p.device() == x.device(), "stack: the input is on ", x.device(),
                " but a parameter of shape ", p.sizes(), " on ", p.device());
  }
  const auto wants_gradient = [](const Tensor& t) { return t.requires_grad(); };
  if (!x.requires_grad() && std::none_of(parameters.begin(), parameters.end(), wants_gradient)) {
    return infer(*impl_->scheme, impl_->layers, impl_->options.state, verdict, x);
  }
  return function_of(*impl_->scheme)(x, parameters, walk);
}

int64_t Stack::n_layers() const { return static_cast<int64_t>(impl_->layers.size()); }

const schemes::Scheme& Stack::scheme() const { return *impl_->scheme; }

const schemes::StateOptions& Stack::state() const { return impl_->options.state; }

const std::vector<FieldPtr>& Stack::fields(int64_t layer) const {
  return impl_->layer_at(layer).fields;
}

Memory Stack::memory(int64_t layer) const { return impl_->layer_at(layer).memory; }

void Stack::set_memory(int64_t layer, Memory memory) {
  Layer& changed = impl_->layer_at(layer);
  impl_->check_memory(layer, memory);
  changed.memory = memory;
}

void Stack::set_sink(Sink sink) { impl_->options.sink = std::move(sink); }

void Stack::set_defer_checks(bool defer) { impl_->options.defer_checks = defer; }

std::vector<Tensor> Stack::layer_parameters(int64_t layer) const {
  std::vector<Tensor> parameters;
  for (const FieldPtr& field : impl_->layer_at(layer).fields) {
    for (const Tensor& p : field->parameters()) {
      const auto same = [&p](const Tensor& other) { return other.is_same(p); };
      if (std::none_of(parameters.begin(), parameters.end(), same)) parameters.push_back(p);
    }
  }
  return parameters;
}

void Stack::check() {
  if (!impl_->verdict) return;
  // Both are read whichever throws: the next call is of later passes.
  const auto rest = c10::make_scope_exit([this] { impl_->verdict->forget(); });
  impl_->verdict->check_saturation();
  impl_->verdict->check_rows(0, n_layers() - 1, *impl_->report);
}

Tensor Stack::flaw() const {
  TORCH_CHECK(impl_->verdict,
              "stack: flaw is known of passes whose checks are deferred, and there was none");
  return impl_->verdict->flaw();
}

Report Stack::take_report() { return std::exchange(*impl_->report, Report()); }

}  // namespace rev::engine
