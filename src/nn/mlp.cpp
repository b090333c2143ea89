#include "rev/nn/mlp.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/gelu.h>
#include <optional>
#include <torch/csrc/autograd/custom_function.h>
#include <tuple>
#include <vector>

#include "nn/operand.h"
#include "rev/kernels/activation.h"
#include "rev/kernels/dtype.h"
#include "rev/nn/dropout.h"

namespace rev::nn {

namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct GeluAffine : torch::autograd::Function<GeluAffine> {
  static Tensor forward(AutogradContext* ctx, const Tensor& h, const Tensor& weight,
                        const std::optional<Tensor>& bias, const std::optional<Tensor>& c,
                        bool need_value) {
    ctx->save_for_backward({h, weight, bias.value_or(Tensor())});
    ctx->saved_data["has_c"] = c.has_value();
    if (!need_value) return at::empty({h.size(0), weight.size(1)}, h.options());
    const Tensor value = kernels::bias_gelu(h, bias.value_or(Tensor()));
    return c ? kernels::matmul_bias(value, weight, *c) : kernels::matmul(value, weight);
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    TORCH_CHECK(!at::GradMode::is_enabled(), "gelu_affine: a second derivative is not supported");
    const variable_list saved = ctx->get_saved_variables();
    const Tensor &h = saved[0], &weight = saved[1], &bias = saved[2], &g = grads[0];
    const bool has_c = ctx->saved_data["has_c"].toBool();
    size_t edge = 2;  // only tensors that are there have one
    const bool wants_bias = bias.defined() && ctx->needs_input_grad(edge++);
    const bool wants_c = has_c && ctx->needs_input_grad(edge);

    kernels::ActivationWants wants;
    wants.bias = wants_bias;
    wants.value = ctx->needs_input_grad(1);
    wants.reuse = true;
    kernels::GeluGradients gradients;
    if (ctx->needs_input_grad(0) || wants_bias) {
      gradients = kernels::bias_gelu_backward(kernels::matmul(g, weight.t()), h, bias, wants);
    } else if (wants.value) {
      gradients.value = kernels::bias_gelu(h, bias);
    }
    variable_list out(5);
    if (ctx->needs_input_grad(0)) out[0] = gradients.x;
    std::tie(out[1], out[3]) = affine_gradients(gradients.value, g, wants.value, wants_c);
    if (wants_bias) out[2] = gradients.bias;
    return out;
  }
};

}  // namespace

Tensor gelu_affine(const Tensor& h, const Tensor& bias, const Tensor& weight, const Tensor& c,
                   bool need_value) {
  const Tensor operand = cast_operand(h);
  if (!kernels::is_kernel_float(operand.scalar_type())) {
    return affine(at::gelu(bias.defined() ? h + bias : h, "tanh"), weight, c, need_value);
  }
  TORCH_CHECK(weight.dim() == 2 && h.dim() >= 1 && h.size(-1) == weight.size(0),
              "gelu_affine: h is ", h.sizes(), " but weight [F,out] is ", weight.sizes());
  TORCH_CHECK(!c.defined() || (c.dim() == 1 && c.size(0) == weight.size(1)), "gelu_affine: c is ",
              c.sizes(), " but weight [F,out] is ", weight.sizes());
  std::vector<int64_t> sizes = h.sizes().vec();
  sizes.back() = weight.size(1);
  const Tensor rows = operand.reshape({-1, weight.size(0)});
  return GeluAffine::apply(rows, cast_operand(weight), if_defined(bias),
                           if_defined(cast_operand(c)), need_value)
      .view(sizes);
}

MlpImpl::MlpImpl(int64_t channels, double dropout, bool with_bias) : dropout_(dropout) {
  c_fc = register_module("c_fc", Linear(channels, 4 * channels, with_bias));
  c_proj = register_module("c_proj", Linear(4 * channels, channels, with_bias));
}

Tensor MlpImpl::forward(const Tensor& x, bool need_value) {
  const Tensor h = affine(x, c_fc->weight);  // [...,F]
  const Tensor y = gelu_affine(h, c_fc->bias, c_proj->weight, c_proj->bias, need_value);
  return dropout(y, is_training() ? dropout_ : 0);
}

}  // namespace rev::nn
