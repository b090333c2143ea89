#include "rev/engine/checkpoint.h"

#include <ATen/core/grad_mode.h>
#include <algorithm>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/custom_class.h>

#include "engine/linearise.h"
#include "engine/replay.h"

namespace rev::engine {

using at::Tensor;
namespace autograd = torch::autograd;

namespace {

constexpr char kReader[] = "checkpoint: fn";

struct Call final : torch::CustomClassHolder {
  std::function<Tensor(at::TensorList)> fn;
  size_t n_inputs = 0;
  std::vector<Tensor> buffers;
  c10::Device device = c10::kCPU;
  base::RngState rng;
  base::AutocastState autocast;
};

struct CheckpointFunction : autograd::Function<CheckpointFunction> {
  // `tensors`: the inputs, then the parameters.
  static Tensor forward(autograd::AutogradContext* ctx, at::TensorList tensors,
                        const c10::intrusive_ptr<Call>& call) {
    const at::TensorList inputs = tensors.slice(0, call->n_inputs);
    for (const Tensor& t : tensors) {
      if (!t.device().is_cpu()) call->device = t.device();
    }
    call->rng = base::RngState::capture(call->device);
    call->autocast = base::AutocastState::capture(call->device.type());
    ctx->saved_data["call"] = c10::IValue::make_capsule(call);
    ctx->save_for_backward(tensors.vec());
    const base::AutocastGuard cast(call->autocast);
    Tensor y = call->fn(inputs);
    for (const Tensor& t : tensors) {
      if (y.is_same(t)) return y.view_as(y);
    }
    return y;
  }

  static autograd::variable_list backward(autograd::AutogradContext* ctx,
                                          const autograd::variable_list& grads) {
    TORCH_CHECK(!at::GradMode::is_enabled(),
                "checkpoint has no second derivative: call backward without create_graph");
    const auto call = c10::static_intrusive_pointer_cast<Call>(ctx->saved_data["call"].toCapsule());
    const autograd::variable_list tensors = ctx->get_saved_variables();
    const at::TensorList all(tensors);
    const BufferGuard once(call->buffers);
    const Linearised graph = replay(call->rng, call->autocast, call->device, [&] {
      return linearise(kReader, call->fn, all.slice(0, call->n_inputs),
                       all.slice(call->n_inputs).vec());
    });
    autograd::variable_list gradients = graph.pullback(grads[0], /*retain=*/false);
    gradients.emplace_back();  // of the call itself
    return gradients;
  }
};

}  // namespace

Tensor checkpoint(std::function<Tensor(at::TensorList)> fn, const std::vector<Tensor>& inputs,
                  const std::vector<Tensor>& parameters, const std::vector<Tensor>& buffers) {
  TORCH_CHECK(fn != nullptr, "checkpoint: a function is needed, got none");
  std::vector<Tensor> tensors = inputs;
  for (const Tensor& p : defined_of(parameters)) tensors.push_back(p);
  const auto wants_gradient = [](const Tensor& t) { return t.requires_grad(); };
  if (at::GradMode::is_enabled() && std::none_of(tensors.begin(), tensors.end(), wants_gradient)) {
    // No node, and so no backward that would find what is not listed.
    const Tensor y = fn(inputs);
    check_reads_nothing_else(kReader, y);
    return y;
  }
  auto call = c10::make_intrusive<Call>();
  call->fn = std::move(fn);
  call->n_inputs = inputs.size();
  call->buffers = buffers;
  return CheckpointFunction::apply(at::TensorList(tensors), call);
}

}  // namespace rev::engine
