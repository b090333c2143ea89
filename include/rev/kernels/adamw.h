// AdamW's step (Loshchilov and Hutter, arXiv 1711.05101) over a list of tensors: with g the
// gradient times the clip factor and t the count of steps, this one included,
//
//   m <- beta1 m + (1 - beta1) g       v <- beta2 v + (1 - beta2) g^2
//   w <- w - lr (decay w + (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps))
//
// In float32, from IEEE's operations alone: the same bits on every device, but for NaN
// (Note [Same bits], dtype.h).
//
// Moments of eight bits are those of arXiv 2110.02861: each block of 256 values has a scale, its
// largest magnitude, and a code for each value's share of it. The codes are dynamic: of m seven
// bits and a sign, for shares from 8^-6 to 1, of sqrt(v) eight bits, for shares from 8^-7 to 1;
// each eighth has half as many codes as the one above it. (The paper has tenths, and codes for v
// itself. Powers of 8 need no table; the root is what a step divides by.) The step is taken with
// the new moments before they are rounded to the nearest code; where v is not 0 its code is not.
#pragma once

#include <ATen/core/Tensor.h>
#include <cstdint>
#include <vector>

namespace rev::kernels {

/// How many consecutive values share a scale where moments have eight bits.
inline constexpr int64_t kMomentBlock = 256;

/// A parameter and its state.
///
/// All of them are changed but the gradient. Tensors of the weight's shape are laid out as it is,
/// without gaps.
struct AdamWTensor {
  at::Tensor weight;            ///< float32 or bfloat16 (rounded to nearest, ties to even)
  at::Tensor grad;              ///< float32 or bfloat16, the weight's shape
  at::Tensor exp_avg;           ///< m, float32, or uint8 codes
  at::Tensor exp_avg_sq;        ///< v, as exp_avg
  at::Tensor exp_avg_scale;     ///< float32 [ceil(n / kMomentBlock)] with codes; else undefined
  at::Tensor exp_avg_sq_scale;  ///< as exp_avg_scale
  at::Tensor step;              ///< float32, one number, its own: t, counted up by the step
  /// A float32 copy of a bfloat16 weight, which is then the copy rounded: without one, steps below
  /// 2^-9 of a weight are lost. Elements that are not so were set by someone else, and are taken
  /// from the weight. Undefined: none.
  at::Tensor master;
  double weight_decay = 0;
};

/// A step's settings, and what it reads on the tensors' device: a step that is captured in a CUDA
/// graph takes the numbers that are there when it is replayed.
struct AdamWStep {
  double beta1 = 0.9;
  double beta2 = 0.95;
  double eps = 1e-8;
  at::Tensor lr;    ///< float32, one number
  at::Tensor clip;  ///< float32, one number that gradients are multiplied by; undefined: 1
  at::Tensor skip;  ///< int32, one number: where it is not 0, nothing changes; undefined: 0
};

/// One step of all tensors, in place, with few launches for many of them, and on a device without
/// a copy or an allocation.
///
/// Throws c10::Error where dtypes, shapes, layouts or devices do not fit, before anything is
/// changed.
void adamw_(const std::vector<AdamWTensor>& tensors, const AdamWStep& step);

}  // namespace rev::kernels
