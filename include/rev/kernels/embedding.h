#pragma once

#include <ATen/core/Tensor.h>
#include <cstdint>

namespace rev::kernels {

/// The gradient of a table of which rows were taken: dweight[v] = sum of grad[n] over the n with
/// token v.
///
/// grad [..,C] float32 or bfloat16; tokens int64 of grad's other sizes, 0 to V-1. Returns dweight
/// [V,C] of `dtype`, float32 or bfloat16. Each row is summed in float32 in the order of n and
/// rounded once: the same bits on every device, but for NaN (Note [Same bits], dtype.h), and with
/// any number of threads. Tokens outside of
/// 0..V-1 are errors on the CPU, and passed over on a device, which would have to wait to tell.
/// Throws c10::Error where shapes, dtypes or devices do not fit.
at::Tensor embedding_backward(const at::Tensor& grad, const at::Tensor& tokens, int64_t vocabulary,
                              at::ScalarType dtype);

}  // namespace rev::kernels
