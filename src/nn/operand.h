// The rule by which autocast treats the operands of a product. It is applied outside of the
// Functions, so that the casts are recorded and what a graph keeps is in the dtype that products
// read.
#pragma once

#include <ATen/autocast_mode.h>
#include <ATen/core/Tensor.h>

namespace rev::nn {

/// t as a product reads it; undefined where t is.
inline at::Tensor cast_operand(const at::Tensor& t) {
  if (!t.defined()) return t;
  const auto device = t.device().type();
  if (!at::autocast::is_autocast_enabled(device)) return t;
  return at::autocast::cached_cast(at::autocast::get_autocast_dtype(device), t, device);
}

}  // namespace rev::nn
