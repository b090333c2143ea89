#include "rev/nn/linear_cross_entropy.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/log_softmax.h>

#include "nn/linear_loss.h"
#include "rev/kernels/cross_entropy.h"

namespace rev::nn {

namespace {

using at::Tensor;

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

}  // namespace

Tensor linear_cross_entropy(const Tensor& x, const Tensor& weight, const Tensor& targets,
                            int64_t chunk, double z_loss) {
  TORCH_CHECK(
      targets.dim() == 1 && targets.size(0) == x.size(0) && targets.scalar_type() == at::kLong,
      "linear_cross_entropy: targets are ", targets.scalar_type(), " ", targets.sizes(),
      ", expected int64 [", x.size(0), "]");
  TORCH_CHECK(z_loss >= 0, "linear_cross_entropy: z_loss is ", z_loss, ", expected 0 or more");
  const auto losses_ = [&](Tensor& logits, int64_t begin, bool want_gradient) {
    return row_losses_(logits, targets.narrow(0, begin, logits.size(0)), z_loss, want_gradient);
  };
  return linear_loss(x, weight, losses_,
                     {"linear_cross_entropy", chunk, targets.ne(kIgnoreIndex).sum()});
}

}  // namespace rev::nn
