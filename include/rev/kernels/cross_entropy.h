// The cross-entropy of logits, whose gradient takes the logits' place: a chunk of them is the
// largest tensor of a language model, and is not needed twice.
//
//   lse = log sum_j e^x_j,   loss = lse - x_t + z lse^2
//   dloss/dx_j = (1 + 2 z lse) e^(x_j - lse) - [j = t]
#pragma once

#include <ATen/core/Tensor.h>
#include <cstdint>

namespace rev::kernels {

/// Rows with this target take no part.
inline constexpr int64_t kIgnoreIndex = -100;

/// The loss of each row, [N] float32.
///
/// logits: [N,V], float32 or bfloat16, the elements of a row side by side, rows any distance apart
/// (on a GPU rows that start at multiples of 16 bytes are read fastest); targets: int64 [N], each
/// in 0..V-1 or kIgnoreIndex, whose rows' loss is 0. z_loss: z. lse: undefined, or float32 [N], to
/// which lse is written (0 for ignored rows). Everything is computed in float32, and the CPU and
/// the GPU give the same bits, but for NaN (Note [Same bits], dtype.h), whatever the number of
/// threads. A row whose logits are not finite
/// has a loss of NaN, but for -inf, which stands for a logit that cannot be. Throws c10::Error
/// where shapes, dtypes or devices do not fit; for a target outside of the row on the CPU, while on
/// a GPU the loss (and the gradient) is NaN.
at::Tensor cross_entropy(const at::Tensor& logits, const at::Tensor& targets, double z_loss = 0,
                         const at::Tensor& lse = {});

/// The same, and the logits become the gradient of the sum of the losses times `factor`, rounded to
/// their dtype; 0 in ignored rows.
at::Tensor cross_entropy_(at::Tensor& logits, const at::Tensor& targets, double factor = 1,
                          double z_loss = 0, const at::Tensor& lse = {});

}  // namespace rev::kernels
