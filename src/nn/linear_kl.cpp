#include "rev/nn/linear_kl.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/full.h>
#include <ATen/ops/log_softmax.h>
#include <cmath>

#include "nn/linear_loss.h"
#include "rev/kernels/cross_entropy.h"

namespace rev::nn {

namespace {

using at::Tensor;

// sum_j a_j (log a_j - log b_j), where a_j = 0 adds 0; [n,1].
Tensor divergence(const Tensor& log_a, const Tensor& log_b) {
  const Tensor a = log_a.exp();
  return (a * (log_a - log_b)).masked_fill(a == 0, 0).sum(1, true);
}

// float64, which the kernel does not take, is left to ATen.
Tensor wide_kl_(const Tensor& teacher, Tensor& student, const kernels::KlOptions& options,
                bool want_gradient) {
  const Tensor log_p = at::log_softmax(teacher / options.temperature, 1);
  const Tensor log_q = at::log_softmax(student / options.temperature, 1);
  const bool is_forward = options.direction == Divergence::Forward;
  const Tensor kept = options.targets.defined()
                          ? options.targets.ne(kernels::kIgnoreIndex).to(at::kDouble).unsqueeze(1)
                          : at::full({1, 1}, 1.0, student.options());
  const Tensor kl = is_forward ? divergence(log_p, log_q) : divergence(log_q, log_p);  // [n,1]
  if (want_gradient) {
    const Tensor q = log_q.exp();
    const Tensor gradient = is_forward ? q - log_p.exp() : q * (log_q - log_p - kl);
    student = gradient / options.temperature * kept;
  }
  return (kl * kept).squeeze(1);
}

}  // namespace

Tensor linear_kl(const Tensor& x, const Tensor& weight, const Tensor& teacher_x,
                 const Tensor& teacher_weight, const LinearKlOptions& options) {
  TORCH_CHECK(
      teacher_x.dim() == 2 && teacher_weight.dim() == 2 && teacher_x.size(0) == x.size(0) &&
          teacher_x.size(1) == teacher_weight.size(1) && teacher_weight.size(0) == weight.size(0),
      "linear_kl: the teacher's x is ", teacher_x.sizes(), " and weight ", teacher_weight.sizes(),
      ", expected [", x.size(0), ",C'] and [", weight.size(0), ",C']");
  TORCH_CHECK(options.temperature > 0 && std::isfinite(options.temperature),
              "linear_kl: the temperature is ", options.temperature,
              ", expected a finite number above 0");
  const Tensor& targets = options.targets;
  TORCH_CHECK(!targets.defined() || (targets.dim() == 1 && targets.size(0) == x.size(0) &&
                                     targets.scalar_type() == at::kLong),
              "linear_kl: targets are ", targets.scalar_type(), " ", targets.sizes(),
              ", expected int64 [", x.size(0), "]");
  const Tensor teacher_w = teacher_weight.detach().to(product_dtype(x));
  const auto losses_ = [&](Tensor& student, int64_t begin, bool want_gradient) {
    const int64_t n = student.size(0);
    const Tensor teacher = chunk_logits(teacher_x.detach(), teacher_w, begin, n);
    const kernels::KlOptions rows = {options.direction, options.temperature,
                                     targets.defined() ? targets.narrow(0, begin, n) : Tensor()};
    if (student.scalar_type() == at::kDouble) {
      return wide_kl_(teacher, student, rows, want_gradient);
    }
    return want_gradient ? kernels::kl_(teacher, student, rows)
                         : kernels::kl(teacher, student, rows);
  };
  const Tensor n_counts = targets.defined() ? targets.ne(kernels::kIgnoreIndex).sum()
                                            : at::full({}, x.size(0), x.options().dtype(at::kLong));
  return linear_loss(x, weight, losses_, {"linear_kl", options.chunk, n_counts});
}

}  // namespace rev::nn
