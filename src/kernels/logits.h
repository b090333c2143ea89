// What operators on rows of logits ask of them.
#pragma once

#include <ATen/core/Tensor.h>
#include <algorithm>
#include <c10/util/Exception.h>
#include <cstdint>

#include "cuda/softmax_math.h"
#include "kernels/device.h"
#include "kernels/row_width.h"
#include "kernels/vectors.h"
#include "rev/kernels/cross_entropy.h"
#include "rev/kernels/dtype.h"

namespace rev::kernels {

static_assert(kIgnoreIndex == cuda::kIgnoredTarget);

/// Throws c10::Error, with `op` and `name` named, where x is no logits.
inline void check_logits(const char* op, const char* name, const at::Tensor& x) {
  check_type_of_device(op, x.device());
  TORCH_CHECK(x.dim() == 2 && is_kernel_float(x.scalar_type()), op, ": ", name,
              " must be float32 or bfloat16 [N,V], got ", x.scalar_type(), " ", x.sizes());
  TORCH_CHECK((x.size(1) <= 1 || x.stride(1) == 1) && (x.size(0) <= 1 || x.stride(0) >= x.size(1)),
              op, ": the elements of a row of ", name,
              " must lie side by side, and rows must not overlap; got strides ", x.strides(),
              " for ", x.sizes());
  check_row_width(op, name, x.size(1));
}

/// Throws c10::Error where targets are not one for each row of x.
inline void check_targets(const char* op, const at::Tensor& targets, const at::Tensor& x) {
  TORCH_CHECK(targets.dim() == 1 && targets.size(0) == x.size(0) &&
                  targets.scalar_type() == at::kLong && targets.device() == x.device(),
              op, ": targets must be int64 [", x.size(0), "] on ", x.device(), ", got ",
              targets.scalar_type(), " ", targets.sizes(), " on ", targets.device());
}

/// How far apart the rows of x start, in elements.
inline int64_t row_stride(const at::Tensor& x) { return x.size(0) > 1 ? x.stride(0) : x.size(1); }

/// Rows of n logits that are worth a thread.
inline int64_t grain_of_logits(int64_t n) {
  return std::max<int64_t>(1, kGrain / std::max<int64_t>(n, 1));
}

/// The softmax of a row of n logits (softmax_math.h).
cuda::Softmax softmax_row(const float* x, int64_t n, float scale);
cuda::Softmax softmax_row(const cuda::BFloat16* x, int64_t n, float scale);

}  // namespace rev::kernels
