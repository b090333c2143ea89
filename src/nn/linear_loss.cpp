#include "nn/linear_loss.h"

#include <ATen/OpMathType.h>
#include <ATen/TensorOperators.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>
#include <algorithm>
#include <torch/csrc/autograd/custom_function.h>

#include "rev/kernels/matmul.h"

namespace rev::nn {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

at::ScalarType product_dtype(const Tensor& x) {
  const auto device = x.device().type();
  const bool cast = at::autocast::is_autocast_enabled(device) && x.scalar_type() != at::kDouble;
  return cast ? at::autocast::get_autocast_dtype(device) : x.scalar_type();
}

Tensor chunk_logits(const Tensor& x, const Tensor& weight, int64_t begin, int64_t n) {
  const Tensor chunk = x.narrow(0, begin, n).to(weight.scalar_type());
  const Tensor logits = kernels::matmul(chunk, weight.t());
  return logits.scalar_type() == at::kHalf ? logits.to(at::kFloat) : logits;
}

namespace {

// What is saved are the gradients of the sum over tokens, whose values suit any dtype; backward
// divides by the number of tokens, which float16 products of smaller values would not survive.
struct LinearLoss : torch::autograd::Function<LinearLoss> {
  static Tensor forward(AutogradContext* ctx, const Tensor& x, const Tensor& weight,
                        const RowLosses& row_losses_, const LinearLossOptions& options, bool want_x,
                        bool want_weight) {
    const at::ScalarType dtype = product_dtype(x);
    const at::ScalarType sum_dtype = at::toOpMathType(dtype);
    const Tensor w = weight.to(dtype);
    const Tensor share = options.n_counts.clamp_min(1).to(sum_dtype).reciprocal();  // 1 / n

    Tensor loss = at::zeros({}, x.options().dtype(sum_dtype));
    Tensor grad_x = want_x ? at::empty_like(x) : Tensor();
    Tensor grad_w = want_weight ? at::zeros(w.sizes(), w.options().dtype(sum_dtype)) : Tensor();
    for (int64_t begin = 0; begin < x.size(0); begin += options.chunk) {
      const int64_t n = std::min(options.chunk, x.size(0) - begin);
      Tensor logits = chunk_logits(x, w, begin, n);  // [n,V]
      loss.add_(row_losses_(logits, begin, want_x || want_weight).sum());
      if (!want_x && !want_weight) continue;

      const Tensor dlogits = logits.to(dtype);
      if (want_x) grad_x.narrow(0, begin, n).copy_(kernels::matmul(dlogits, w));
      if (want_weight) {
        grad_w.add_(kernels::matmul(dlogits.t(), x.narrow(0, begin, n).to(dtype)));
      }
    }
    ctx->saved_data["name"] = std::string(options.name);
    ctx->save_for_backward({grad_x, grad_w, share});
    return loss.mul_(share);
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    TORCH_CHECK(!at::GradMode::is_enabled(), ctx->saved_data["name"].toStringRef(),
                ": a second derivative is not supported");
    const variable_list saved = ctx->get_saved_variables();
    const Tensor factor = grads[0] * saved[2];
    variable_list out(6);
    for (size_t i = 0; i < 2; ++i) {
      if (saved[i].defined()) out[i] = saved[i] * factor;
    }
    return out;
  }
};

}  // namespace

Tensor linear_loss(const Tensor& x, const Tensor& weight, const RowLosses& row_losses_,
                   const LinearLossOptions& options) {
  TORCH_CHECK(x.dim() == 2 && weight.dim() == 2 && x.size(1) == weight.size(1), options.name,
              ": x is ", x.sizes(), " and weight ", weight.sizes(), ", expected [N,C] and [V,C]");
  TORCH_CHECK(options.chunk > 0, options.name, ": chunk is ", options.chunk,
              ", expected at least 1 token");
  const bool graph = at::GradMode::is_enabled();
  return LinearLoss::apply(x, weight, row_losses_, options, graph && x.requires_grad(),
                           graph && weight.requires_grad());
}

}  // namespace rev::nn
