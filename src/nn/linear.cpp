#include "rev/nn/linear.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/normal.h>
#include <ATen/ops/zeros.h>
#include <optional>
#include <torch/csrc/autograd/custom_function.h>
#include <tuple>
#include <vector>

#include "nn/operand.h"
#include "rev/kernels/matmul.h"

namespace rev::nn {

namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct LinearFunction : torch::autograd::Function<LinearFunction> {
  static Tensor forward(AutogradContext* ctx, const Tensor& x, const Tensor& weight,
                        const std::optional<Tensor>& bias, bool transposed, bool need_value) {
    ctx->save_for_backward({x, weight});
    ctx->saved_data["has_bias"] = bias.has_value();
    ctx->saved_data["transposed"] = transposed;
    const Tensor w = transposed ? weight.t() : weight;
    if (!need_value) return at::empty({x.size(0), w.size(1)}, x.options());
    return bias ? kernels::matmul_bias(x, w, *bias) : kernels::matmul(x, w);
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const variable_list saved = ctx->get_saved_variables();
    const Tensor &x = saved[0], &weight = saved[1], &g = grads[0];
    const bool transposed = ctx->saved_data["transposed"].toBool();
    variable_list out(5);
    if (ctx->needs_input_grad(0)) out[0] = product(g, transposed ? weight : weight.t());
    const bool wants_bias = ctx->saved_data["has_bias"].toBool() && ctx->needs_input_grad(2);
    std::tie(out[1], out[2]) =
        affine_gradients(x, g, ctx->needs_input_grad(1), wants_bias, transposed);
    return out;
  }
};

// weight [in,out], or [out,in] where it is transposed
Tensor map(const char* name, const Tensor& x, const Tensor& weight, const Tensor& bias,
           bool transposed, bool need_value) {
  const char* layout = transposed ? "[out,in]" : "[in,out]";
  TORCH_CHECK(weight.dim() == 2, name, ": weight is ", weight.sizes(), ", expected ", layout);
  const int64_t n_in = weight.size(transposed ? 1 : 0), n_out = weight.size(transposed ? 0 : 1);
  TORCH_CHECK(x.dim() >= 1 && x.size(-1) == n_in, name, ": x is ", x.sizes(), ", but weight ",
              layout, " is ", weight.sizes());
  TORCH_CHECK(!bias.defined() || (bias.dim() == 1 && bias.size(0) == n_out), name, ": bias is ",
              bias.sizes(), ", but weight ", layout, " is ", weight.sizes());

  std::vector<int64_t> sizes = x.sizes().vec();
  sizes.back() = n_out;
  const Tensor rows = cast_operand(x).reshape({-1, n_in});
  return LinearFunction::apply(rows, cast_operand(weight), if_defined(cast_operand(bias)),
                               transposed, need_value)
      .view(sizes);
}

}  // namespace

Tensor affine(const Tensor& x, const Tensor& weight, const Tensor& bias, bool need_value) {
  return map("affine", x, weight, bias, /*transposed=*/false, need_value);
}

Tensor project(const Tensor& x, const Tensor& weight, const Tensor& bias, bool need_value) {
  return map("project", x, weight, bias, /*transposed=*/true, need_value);
}

LinearImpl::LinearImpl(int64_t in, int64_t out, bool with_bias, double std) {
  weight = register_parameter("weight", at::normal(0.0, std, {in, out}));
  if (with_bias) bias = register_parameter("bias", at::zeros({out}));
}

Tensor LinearImpl::forward(const Tensor& x, bool need_value) {
  return affine(x, weight, bias, need_value);
}

ProjectionImpl::ProjectionImpl(int64_t in, int64_t out, bool with_bias, double std) {
  weight = register_parameter("weight", at::normal(0.0, std, {out, in}));
  if (with_bias) bias = register_parameter("bias", at::zeros({out}));
}

Tensor ProjectionImpl::forward(const Tensor& x, bool need_value) {
  return project(x, weight, bias, need_value);
}

}  // namespace rev::nn
