#include "rev/nn/linear_cross_entropy.h"

#include <ATen/OpMathType.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>
#include <algorithm>
#include <torch/csrc/autograd/custom_function.h>

namespace rev::nn {

namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

at::ScalarType product_dtype(const Tensor& x) {
  const auto device = x.device().type();
  const bool cast = at::autocast::is_autocast_enabled(device) && x.scalar_type() != at::kDouble;
  return cast ? at::autocast::get_autocast_dtype(device) : x.scalar_type();
}

// What is saved are the gradients of the sum over tokens, from dlogits = softmax(logits) -
// onehot(target), whose values suit any dtype; backward divides by the number of tokens, which
// float16 products of smaller values would not survive.
struct LinearCrossEntropy : torch::autograd::Function<LinearCrossEntropy> {
  static Tensor forward(AutogradContext* ctx, const Tensor& x, const Tensor& weight,
                        const Tensor& targets, int64_t chunk, bool want_x, bool want_weight) {
    const at::ScalarType dtype = product_dtype(x);
    const at::ScalarType sum_dtype = at::toOpMathType(dtype);
    const Tensor w = weight.to(dtype);
    const Tensor counts = targets.ne(kIgnoreIndex);                                   // [N]
    const Tensor share = counts.sum().clamp_min(1).to(sum_dtype).reciprocal();        // 1 / n
    const Tensor kept = counts.to(sum_dtype).unsqueeze(1);                            // [N,1]
    const Tensor target = targets.masked_fill(counts.logical_not(), 0).unsqueeze(1);  // [N,1]

    Tensor loss = at::zeros({}, x.options().dtype(sum_dtype));
    Tensor grad_x = want_x ? at::empty_like(x) : Tensor();
    Tensor grad_w = want_weight ? at::zeros(w.sizes(), w.options().dtype(sum_dtype)) : Tensor();
    for (int64_t begin = 0; begin < x.size(0); begin += chunk) {
      const int64_t n = std::min(chunk, x.size(0) - begin);
      const Tensor xc = x.narrow(0, begin, n).to(dtype);
      const Tensor tc = target.narrow(0, begin, n), kc = kept.narrow(0, begin, n);
      Tensor p = at::log_softmax(at::mm(xc, w.t()).to(sum_dtype), 1);  // [n,V]
      loss.sub_(p.gather(1, tc).mul_(kc).sum());
      if (!want_x && !want_weight) continue;

      p.exp_().mul_(kc).scatter_add_(1, tc, -kc);
      const Tensor dlogits = p.to(dtype);
      if (want_x) grad_x.narrow(0, begin, n).copy_(at::mm(dlogits, w));
      if (want_weight) grad_w.add_(at::mm(dlogits.t(), xc));
    }
    ctx->save_for_backward({grad_x, grad_w, share});
    return loss.mul_(share);
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    TORCH_CHECK(!at::GradMode::is_enabled(),
                "linear_cross_entropy: a second derivative is not supported");
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

Tensor linear_cross_entropy(const Tensor& x, const Tensor& weight, const Tensor& targets,
                            int64_t chunk) {
  TORCH_CHECK(x.dim() == 2 && weight.dim() == 2 && x.size(1) == weight.size(1),
              "linear_cross_entropy: x is ", x.sizes(), " and weight ", weight.sizes(),
              ", expected [N,C] and [V,C]");
  TORCH_CHECK(
      targets.dim() == 1 && targets.size(0) == x.size(0) && targets.scalar_type() == at::kLong,
      "linear_cross_entropy: targets are ", targets.scalar_type(), " ", targets.sizes(),
      ", expected int64 [", x.size(0), "]");
  TORCH_CHECK(chunk > 0, "linear_cross_entropy: chunk is ", chunk, ", expected at least 1 token");
  const bool graph = at::GradMode::is_enabled();
  return LinearCrossEntropy::apply(x, weight, targets, chunk, graph && x.requires_grad(),
                                   graph && weight.requires_grad());
}

}  // namespace rev::nn
