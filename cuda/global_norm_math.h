// The sum of squares over many tensors, in one order for the CPU path and the kernels, so that both
// give the same bits whatever the number of threads.
//
// Each tensor is cut into slices of kNormSlice elements, the last of them shorter. A slice's
// squares are added in float32 as sum_math.h has it with W = kNormLanes: a square is rounded, and
// takes part in 8 + 11 sums, of which the first, with 0, is exact. So a slice's sum is off by less
// than 19 units of 2^-24 of itself. The slices' sums are added in kNormSums running sums with their
// rounding errors beside them, which leaves one unit for the total; its root is off by half of
// that, and rounds once: 11 units, 6.6e-7, for any number of elements.
#pragma once

#include <cmath>
#include <cstdint>

#include "cuda/host_device.h"
#include "cuda/sum_math.h"

namespace rev::cuda {

constexpr int kNormLanes = 256;
constexpr int64_t kNormSlice = 8 * kNormLanes * kLaneSums;
constexpr int kNormSums = 1024;  // sum k adds slices k, k + kNormSums, ...; then halves are added

/// A sum and what its roundings lost.
struct LongSum {
  float sum;
  float lost;
};

/// a + b (Knuth's two sums, exact but for the sum of what was lost).
REV_HOST_DEVICE LongSum add(LongSum a, LongSum b) {
  const float sum = a.sum + b.sum;
  const float taken = sum - a.sum;
  const float lost = (a.sum - (sum - taken)) + (b.sum - taken);
  return {sum, (a.lost + b.lost) + lost};
}

/// The root of a sum of squares; what is lost has no meaning beside infinity.
REV_HOST_DEVICE float norm_of(LongSum squares) {
  const bool finite = squares.sum < INFINITY;  // false for NaN
  return sqrtf(finite ? squares.sum + squares.lost : squares.sum);
}

/// min(1, most / norm), and 1 where the norm is not finite.
REV_HOST_DEVICE float clip_factor(float norm, float most) {
  return norm > most && norm < INFINITY ? most / norm : 1.0f;
}

}  // namespace rev::cuda
