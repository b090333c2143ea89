#include "rev/nn/gated_mlp.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/silu.h>
#include <optional>
#include <torch/csrc/autograd/custom_function.h>
#include <tuple>
#include <vector>

#include "nn/operand.h"
#include "rev/kernels/activation.h"
#include "rev/kernels/dtype.h"

namespace rev::nn {

namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct SwigluLinear : torch::autograd::Function<SwigluLinear> {
  static Tensor forward(AutogradContext* ctx, const Tensor& gate, const Tensor& up,
                        const Tensor& weight, const std::optional<Tensor>& gate_bias,
                        const std::optional<Tensor>& up_bias, const std::optional<Tensor>& c,
                        bool need_value) {
    ctx->save_for_backward(
        {gate, up, weight, gate_bias.value_or(Tensor()), up_bias.value_or(Tensor())});
    ctx->saved_data["has_c"] = c.has_value();
    if (!need_value) return at::empty({gate.size(0), weight.size(0)}, gate.options());
    const Tensor value =
        kernels::swiglu(gate, up, gate_bias.value_or(Tensor()), up_bias.value_or(Tensor()));
    return c ? kernels::matmul_bias(value, weight.t(), *c) : kernels::matmul(value, weight.t());
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    TORCH_CHECK(!at::GradMode::is_enabled(), "swiglu_linear: a second derivative is not supported");
    const variable_list saved = ctx->get_saved_variables();
    const Tensor &gate = saved[0], &up = saved[1], &weight = saved[2], &g = grads[0];
    const Tensor &gate_bias = saved[3], &up_bias = saved[4];
    size_t edge = 3;  // only tensors that are there have one
    const bool wants_gate_bias = gate_bias.defined() && ctx->needs_input_grad(edge++);
    const bool wants_up_bias = up_bias.defined() && ctx->needs_input_grad(edge++);
    const bool wants_c = ctx->saved_data["has_c"].toBool() && ctx->needs_input_grad(edge);

    kernels::ActivationWants wants;
    wants.bias = wants_gate_bias || wants_up_bias;
    wants.value = ctx->needs_input_grad(2);
    kernels::SwigluGradients gradients;
    if (ctx->needs_input_grad(0) || ctx->needs_input_grad(1) || wants.bias) {
      gradients =
          kernels::swiglu_backward(kernels::matmul(g, weight), gate, up, gate_bias, up_bias, wants);
    } else if (wants.value) {
      gradients.value = kernels::swiglu(gate, up, gate_bias, up_bias);
    }
    variable_list out(7);
    if (ctx->needs_input_grad(0)) out[0] = gradients.gate;
    if (ctx->needs_input_grad(1)) out[1] = gradients.up;
    std::tie(out[2], out[5]) =
        affine_gradients(gradients.value, g, wants.value, wants_c, /*transposed=*/true);
    if (wants_gate_bias) out[3] = gradients.gate_bias;
    if (wants_up_bias) out[4] = gradients.up_bias;
    return out;
  }
};

Tensor biased(const Tensor& x, const Tensor& bias) { return bias.defined() ? x + bias : x; }

}  // namespace

Tensor swiglu_linear(const Tensor& gate, const Tensor& up, const Tensor& weight,
                     const Tensor& gate_bias, const Tensor& up_bias, const Tensor& c,
                     bool need_value) {
  TORCH_CHECK(weight.dim() == 2 && gate.dim() >= 1 && gate.size(-1) == weight.size(1) &&
                  up.sizes() == gate.sizes(),
              "swiglu_linear: gate is ", gate.sizes(), " and up ", up.sizes(),
              " but weight [out,F] is ", weight.sizes());
  TORCH_CHECK(!c.defined() || (c.dim() == 1 && c.size(0) == weight.size(0)), "swiglu_linear: c is ",
              c.sizes(), " but weight [out,F] is ", weight.sizes());
  const Tensor operand = cast_operand(gate);
  if (!kernels::is_kernel_float(operand.scalar_type())) {
    return project(at::silu(biased(gate, gate_bias)) * biased(up, up_bias), weight, c, need_value);
  }
  std::vector<int64_t> sizes = gate.sizes().vec();
  sizes.back() = weight.size(0);
  return SwigluLinear::apply(operand.reshape({-1, weight.size(1)}),
                             cast_operand(up).reshape({-1, weight.size(1)}), cast_operand(weight),
                             if_defined(gate_bias), if_defined(up_bias),
                             if_defined(cast_operand(c)), need_value)
      .view(sizes);
}

GatedMlpImpl::GatedMlpImpl(int64_t channels, int64_t hidden, bool with_bias) {
  gate_proj = register_module("gate_proj", Projection(channels, hidden, with_bias));
  up_proj = register_module("up_proj", Projection(channels, hidden, with_bias));
  down_proj = register_module("down_proj", Projection(hidden, channels, with_bias));
}

Tensor GatedMlpImpl::forward(const Tensor& x, bool need_value) {
  const Tensor gate = project(x, gate_proj->weight), up = project(x, up_proj->weight);  // [...,F]
  return swiglu_linear(gate, up, down_proj->weight, gate_proj->bias, up_proj->bias, down_proj->bias,
                       need_value);
}

}  // namespace rev::nn
