#include "rev/nn/linear_cross_entropy.h"

#include <ATen/OpMathType.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/zeros.h>
#include <algorithm>
#include <torch/csrc/autograd/custom_function.h>

#include "rev/kernels/cross_entropy.h"
#include "rev/kernels/matmul.h"

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

// The loss of each row of logits, which become the gradient of the losses' sum where it is wanted.
// float64, which the kernel does not take, is left to ATen.
Tensor row_losses_(Tensor& logits, const Tensor& targets, double z_loss, bool want_gradient) {
  if (logits.scalar_type() != at::kDouble) {
    return want_gradient ? kernels::cross_entropy_(logits, targets, 1, z_loss)
                         : kernels::cross_entropy(logits, targets, z_loss);
  }
  const Tensor counts = targets.ne(kIgnoreIndex);                                   // [n]
  const Tensor target = targets.masked_fill(counts.logical_not(), 0).unsqueeze(1);  // [n,1]
  const Tensor kept = counts.to(at::kDouble).unsqueeze(1);                          // [n,1]
  Tensor p = at::log_softmax(logits, 1);                                            // [n,V]
  const Tensor log_p = p.gather(1, target), lse = logits.gather(1, target) - log_p;
  const Tensor loss = (lse.square() * z_loss - log_p) * kept;
  if (want_gradient) {
    logits = p.exp_().mul_((2 * z_loss * lse + 1) * kept).scatter_add_(1, target, -kept);
  }
  return loss.squeeze(1);
}

// What is saved are the gradients of the sum over tokens, from dlogits = softmax(logits) -
// onehot(target), whose values suit any dtype; backward divides by the number of tokens, which
// float16 products of smaller values would not survive.
struct LinearCrossEntropy : torch::autograd::Function<LinearCrossEntropy> {
  static Tensor forward(AutogradContext* ctx, const Tensor& x, const Tensor& weight,
                        const Tensor& targets, int64_t chunk, double z_loss, bool want_x,
                        bool want_weight) {
    const at::ScalarType dtype = product_dtype(x);
    const at::ScalarType sum_dtype = at::toOpMathType(dtype);
    const Tensor w = weight.to(dtype);
    const Tensor counts = targets.ne(kIgnoreIndex);                             // [N]
    const Tensor share = counts.sum().clamp_min(1).to(sum_dtype).reciprocal();  // 1 / n

    Tensor loss = at::zeros({}, x.options().dtype(sum_dtype));
    Tensor grad_x = want_x ? at::empty_like(x) : Tensor();
    Tensor grad_w = want_weight ? at::zeros(w.sizes(), w.options().dtype(sum_dtype)) : Tensor();
    for (int64_t begin = 0; begin < x.size(0); begin += chunk) {
      const int64_t n = std::min(chunk, x.size(0) - begin);
      const Tensor xc = x.narrow(0, begin, n).to(dtype);
      Tensor logits = kernels::matmul(xc, w.t());              // [n,V]
      if (dtype == at::kHalf) logits = logits.to(at::kFloat);  // the kernel takes no float16
      loss.add_(
          row_losses_(logits, targets.narrow(0, begin, n), z_loss, want_x || want_weight).sum());
      if (!want_x && !want_weight) continue;

      const Tensor dlogits = logits.to(dtype);
      if (want_x) grad_x.narrow(0, begin, n).copy_(kernels::matmul(dlogits, w));
      if (want_weight) grad_w.add_(kernels::matmul(dlogits.t(), xc));
    }
    ctx->save_for_backward({grad_x, grad_w, share});
    return loss.mul_(share);
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    TORCH_CHECK(!at::GradMode::is_enabled(),
                "linear_cross_entropy: a second derivative is not supported");
    const variable_list saved = ctx->get_saved_variables();
    const Tensor factor = grads[0] * saved[2];
    variable_list out(7);
    for (size_t i = 0; i < 2; ++i) {
      if (saved[i].defined()) out[i] = saved[i] * factor;
    }
    return out;
  }
};

}  // namespace

Tensor linear_cross_entropy(const Tensor& x, const Tensor& weight, const Tensor& targets,
                            int64_t chunk, double z_loss) {
  TORCH_CHECK(x.dim() == 2 && weight.dim() == 2 && x.size(1) == weight.size(1),
              "linear_cross_entropy: x is ", x.sizes(), " and weight ", weight.sizes(),
              ", expected [N,C] and [V,C]");
  TORCH_CHECK(
      targets.dim() == 1 && targets.size(0) == x.size(0) && targets.scalar_type() == at::kLong,
      "linear_cross_entropy: targets are ", targets.scalar_type(), " ", targets.sizes(),
      ", expected int64 [", x.size(0), "]");
  TORCH_CHECK(chunk > 0, "linear_cross_entropy: chunk is ", chunk, ", expected at least 1 token");
  TORCH_CHECK(z_loss >= 0, "linear_cross_entropy: z_loss is ", z_loss, ", expected 0 or more");
  const bool graph = at::GradMode::is_enabled();
  return LinearCrossEntropy::apply(x, weight, targets, chunk, z_loss, graph && x.requires_grad(),
                                   graph && weight.requires_grad());
}

}  // namespace rev::nn
