#include "rev/optim/clip.h"

#include <ATen/OpMathType.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/stack.h>
#include <cmath>

namespace rev::optim {

double clip_grad_norm(const std::vector<at::Tensor>& parameters, double max_norm) {
  TORCH_CHECK(max_norm > 0, "clip_grad_norm: max_norm is ", max_norm, ", expected above 0");
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> grads, norms;
  for (const at::Tensor& parameter : parameters) {
    if (!parameter.grad().defined()) continue;
    grads.push_back(parameter.grad());
    const at::ScalarType dtype = at::toOpMathType(grads.back().scalar_type());
    const at::Tensor rows =
        at::linalg_vector_norm(grads.back(), 2, at::IntArrayRef{-1}, false, dtype);
    norms.push_back(at::linalg_vector_norm(rows, 2, {}, false, at::kDouble));
  }
  if (grads.empty()) return 0;
  // One value crosses to the host, whatever the number of tensors.
  const double norm = at::linalg_vector_norm(at::stack(norms)).item<double>();
  if (!(norm > max_norm) || !std::isfinite(norm)) return norm;
  for (at::Tensor& grad : grads) grad.mul_(max_norm / norm);
  return norm;
}

}  // namespace rev::optim
