#include "rev/nn/norm.h"

#include <ATen/autocast_mode.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/rms_norm.h>
#include <ATen/ops/zeros.h>
#include <optional>
#include <torch/csrc/autograd/custom_function.h>

#include "nn/operand.h"
#include "rev/kernels/dtype.h"
#include "rev/kernels/norm.h"

namespace rev::nn {

namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

bool by_kernel(const Tensor& x, const Tensor& weight) {
  return weight.scalar_type() == at::kFloat && kernels::is_kernel_float(x.scalar_type());
}

// The dtype of a norm that products alone read.
at::ScalarType operand_dtype(const Tensor& x) {
  const auto device = x.device().type();
  const bool narrow = at::autocast::is_autocast_enabled(device) &&
                      at::autocast::get_autocast_dtype(device) == at::kBFloat16;
  return narrow ? at::kBFloat16 : x.scalar_type();
}

// Which gradients of (x, weight, bias) are wanted.
kernels::NormGradientOptions wanted(AutogradContext* ctx) {
  TORCH_CHECK(!at::GradMode::is_enabled(), "norm: a second derivative is not supported");
  kernels::NormGradientOptions options;
  options.x = ctx->needs_input_grad(0);
  options.weight = ctx->needs_input_grad(1);
  options.bias = false;
  return options;
}

struct LayerNormFunction : torch::autograd::Function<LayerNormFunction> {
  static Tensor forward(AutogradContext* ctx, const Tensor& x, const Tensor& weight,
                        const std::optional<Tensor>& bias, double eps, at::ScalarType dtype) {
    const kernels::Normed n = kernels::layer_norm(x, weight, bias.value_or(Tensor()), eps, dtype);
    ctx->save_for_backward({x, weight, n.mean, n.rstd});
    ctx->saved_data["has_bias"] = bias.has_value();
    return n.y;
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    kernels::NormGradientOptions options = wanted(ctx);
    options.bias = ctx->saved_data["has_bias"].toBool() && ctx->needs_input_grad(2);
    const variable_list saved = ctx->get_saved_variables();
    const kernels::NormGradients g =
        kernels::layer_norm_backward(grads[0], saved[0], saved[1], saved[2], saved[3], options);
    return {g.x, g.weight, g.bias, Tensor(), Tensor()};
  }
};

struct RMSNormFunction : torch::autograd::Function<RMSNormFunction> {
  static Tensor forward(AutogradContext* ctx, const Tensor& x, const Tensor& weight, double eps,
                        at::ScalarType dtype) {
    const kernels::Normed n = kernels::rms_norm(x, weight, eps, dtype);
    ctx->save_for_backward({x, weight, n.rstd});
    return n.y;
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const kernels::NormGradientOptions options = wanted(ctx);
    const variable_list saved = ctx->get_saved_variables();
    const kernels::NormGradients g =
        kernels::rms_norm_backward(grads[0], saved[0], saved[1], saved[2], options);
    return {g.x, g.weight, Tensor(), Tensor()};
  }
};

}  // namespace

LayerNormImpl::LayerNormImpl(int64_t channels, bool with_bias, double eps) : eps_(eps) {
  weight = register_parameter("weight", at::ones({channels}));
  if (with_bias) bias = register_parameter("bias", at::zeros({channels}));
}

Tensor LayerNormImpl::norm(const Tensor& x, at::ScalarType dtype) {
  if (!by_kernel(x, weight)) return at::layer_norm(x, weight.sizes(), weight, bias, eps_);
  return LayerNormFunction::apply(x, weight, if_defined(bias), eps_, dtype);
}

Tensor LayerNormImpl::forward(const Tensor& x) { return norm(x, x.scalar_type()); }

Tensor LayerNormImpl::operand(const Tensor& x) { return norm(x, operand_dtype(x)); }

RMSNormImpl::RMSNormImpl(int64_t channels, double eps) : eps_(eps) {
  weight = register_parameter("weight", at::ones({channels}));
}

Tensor RMSNormImpl::norm(const Tensor& x, at::ScalarType dtype) {
  if (!by_kernel(x, weight)) return at::rms_norm(x, weight.sizes(), weight, eps_);
  return RMSNormFunction::apply(x, weight, eps_, dtype);
}

Tensor RMSNormImpl::forward(const Tensor& x) { return norm(x, x.scalar_type()); }

Tensor RMSNormImpl::operand(const Tensor& x) { return norm(x, operand_dtype(x)); }

}  // namespace rev::nn
