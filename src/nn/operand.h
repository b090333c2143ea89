// What the Functions around products share.
#pragma once

#include <ATen/autocast_mode.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/mm.h>
#include <optional>
#include <utility>

#include "rev/kernels/matmul.h"

namespace rev::nn {

/// t for a Function, which takes no undefined tensors.
inline std::optional<at::Tensor> if_defined(const at::Tensor& t) {
  return t.defined() ? std::make_optional(t) : std::nullopt;
}

/// t as autocast has a product read it; undefined where t is. Called outside of the Functions, so
/// that the casts are recorded and what a graph keeps is in the dtype that products read.
inline at::Tensor cast_operand(const at::Tensor& t) {
  if (!t.defined()) return t;
  const auto device = t.device().type();
  if (!at::autocast::is_autocast_enabled(device)) return t;
  return at::autocast::cached_cast(at::autocast::get_autocast_dtype(device), t, device);
}

/// a b for gradients: ATen's product where they are to have a graph themselves, which the pinned
/// one has not.
inline at::Tensor product(const at::Tensor& a, const at::Tensor& b) {
  return at::GradMode::is_enabled() ? at::mm(a, b) : kernels::matmul(a, b);
}

/// The gradients of W and bias, those that are wanted, of y = x W + bias from dy; x [N,in],
/// dy [N,out]. transposed: W^T's instead of W's, [out,in].
inline std::pair<at::Tensor, at::Tensor> affine_gradients(const at::Tensor& x, const at::Tensor& dy,
                                                          bool weight, bool bias,
                                                          bool transposed = false) {
  if (weight && bias && !at::GradMode::is_enabled()) {
    return transposed ? kernels::matmul_sum_a(dy.t(), x) : kernels::matmul_sum_b(x.t(), dy);
  }
  at::Tensor dw;
  if (weight) dw = transposed ? product(dy.t(), x) : product(x.t(), dy);
  return {dw, bias ? dy.sum(0) : at::Tensor()};
}

}  // namespace rev::nn
