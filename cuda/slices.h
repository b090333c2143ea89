// The second stage of sums over rows (slices_math.h): the slices' sums are added.
#pragma once

#include <cstdint>
#include <cuda_runtime.h>

#include "cuda/slices_math.h"
#include "cuda/warp.h"

namespace rev::cuda {

/// to[j] = the sum over slices of from [slices, n] at j, for the kWarp columns j from `first` on.
///
/// Called by all threads of a block of kSliceSums warps, each of which takes one running sum of
/// each column; `shared` may be used again when it returns.
__device__ __forceinline__ void add_slices(float* to, const float* from, int64_t slices, int64_t n,
                                           int64_t first, float (&shared)[kSliceSums][kWarp]) {
  const int sum = static_cast<int>(threadIdx.x) / kWarp;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int64_t column = first + lane;
  float value = 0.0f;
  if (column < n) {
#pragma unroll 4
    for (int64_t slice = sum; slice < slices; slice += kSliceSums)
      value += from[slice * n + column];
  }
  shared[sum][lane] = value;
  for (int half = kSliceSums / 2; half > 0; half /= 2) {
    __syncthreads();
    if (sum < half) shared[sum][lane] += shared[sum + half][lane];
  }
  if (sum == 0 && column < n) to[column] = shared[0][lane];
  __syncthreads();  // before others are written over these
}

}  // namespace rev::cuda
