// LayerNorm and RMSNorm, number by number: one source for the CPU path and the kernels, so that
// both give the same bits (IEEE operations in the order written, grid_math.h).
//
// A row x of C numbers, n the normed row:
//   mean = sum x / C,  rstd = 1 / sqrt(sum (x - mean)^2 / C + eps)        RMSNorm: mean = 0
//   n = (x - mean) rstd,  y = n weight + bias                             RMSNorm: no bias
// Backward, with d = dy weight:
//   dx = (d - sum d / C - n (sum d n / C)) rstd                           RMSNorm: no second term
//   dweight = sum dy n,  dbias = sum dy                                   over the rows
//
// Sums over a row are ordered_sum<32> (sum_math.h), means their products with 1 / C. Sums over the
// rows are those of slices_math.h.
#pragma once

#include <cmath>
#include <cstdint>

#include "cuda/host_device.h"

namespace rev::cuda {

/// 1 / C, by which sums are multiplied to be means.
inline float inverse_width(int64_t width) { return 1.0f / static_cast<float>(width); }

/// rstd from a row's mean square (of x - mean): a sum, a root and a division, each rounded.
REV_HOST_DEVICE float norm_scale(float mean_square, float eps) {
  return 1.0f / sqrtf(mean_square + eps);
}

/// dx, from the row's means of d and of d n.
REV_HOST_DEVICE float norm_gradient(float d, float n, float mean_d, float mean_dn, float rstd) {
  return ((d - mean_d) - n * mean_dn) * rstd;
}

}  // namespace rev::cuda
