#include "rev/optim/clip.h"

#include <ATen/OpMathType.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/stack.h>
#include <algorithm>
#include <cmath>

#include "rev/kernels/dtype.h"

namespace rev::optim {

namespace {

using at::Tensor;

std::vector<Tensor> grads_of(const std::vector<Tensor>& parameters) {
  std::vector<Tensor> grads;
  for (const Tensor& parameter : parameters) {
    if (parameter.grad().defined()) grads.push_back(parameter.grad());
  }
  return grads;
}

void check_limit(const char* op, double max_norm) {
  TORCH_CHECK(max_norm > 0, op, ": max_norm is ", max_norm, ", expected above 0");
}

double norm_by_torch(const std::vector<Tensor>& grads) {
  std::vector<Tensor> norms;
  for (const Tensor& grad : grads) {
    const at::ScalarType dtype = at::toOpMathType(grad.scalar_type());
    const Tensor rows = at::linalg_vector_norm(grad, 2, at::IntArrayRef{-1}, false, dtype);
    norms.push_back(at::linalg_vector_norm(rows, 2, {}, false, at::kDouble));
  }
  // One value crosses to the host, whatever the number of tensors.
  return at::linalg_vector_norm(at::stack(norms)).item<double>();
}

}  // namespace

double clip_grad_norm(const std::vector<Tensor>& parameters, double max_norm) {
  check_limit("clip_grad_norm", max_norm);
  const at::NoGradGuard no_grad;
  std::vector<Tensor> grads = grads_of(parameters);
  if (grads.empty()) return 0;
  const bool by_kernel = std::all_of(grads.begin(), grads.end(), [](const Tensor& grad) {
    return kernels::is_kernel_float(grad.scalar_type());
  });
  const double norm =
      by_kernel ? kernels::global_norm(grads).norm.item<double>() : norm_by_torch(grads);
  if (!(norm > max_norm) || !std::isfinite(norm)) return norm;
  for (Tensor& grad : grads) grad.mul_(max_norm / norm);
  return norm;
}

kernels::GlobalNorm grad_norm(const std::vector<Tensor>& parameters, double max_norm,
                              const Tensor& not_finite) {
  check_limit("grad_norm", max_norm);
  const at::NoGradGuard no_grad;
  return kernels::global_norm(grads_of(parameters), max_norm, not_finite);
}

}  // namespace rev::optim
