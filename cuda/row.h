// How kernels walk a row of floats: a lane takes kLaneSums consecutive elements at a time, and the
// lanes' sums are added in the order of sum_math.h.
#pragma once

#include <cstdint>
#include <cuda_runtime.h>

#include "cuda/bfloat16.h"
#include "cuda/sum_math.h"
#include "cuda/warp.h"

namespace rev::cuda {

/// Whether rows of this width can be read with 128-bit accesses, given that their start can.
inline bool wide_rows(int64_t width) { return width % kLaneSums == 0; }

/// values[k] = row[column + k], 0 beyond the row's n elements. kWide: `wide_rows` holds and the
/// pointer is aligned to 16 bytes. T: float or BFloat16.
template <bool kWide, class T>
__device__ __forceinline__ void load_floats(const T* row, int64_t column, int64_t n,
                                            float (&values)[kLaneSums]) {
  if constexpr (kWide) {
    T loaded[kLaneSums];
    load(row + column, loaded);
#pragma unroll
    for (int k = 0; k < kLaneSums; ++k) values[k] = widen(loaded[k]);
  } else {
#pragma unroll
    for (int k = 0; k < kLaneSums; ++k) {
      values[k] = column + k < n ? widen(row[column + k]) : 0.0f;
    }
  }
}

/// row[column + k] = values[k] where that is inside the row.
template <bool kWide, class T>
__device__ __forceinline__ void store_floats(T* row, int64_t column, int64_t n,
                                             const float (&values)[kLaneSums]) {
  if constexpr (kWide) {
    T stored[kLaneSums];
#pragma unroll
    for (int k = 0; k < kLaneSums; ++k) stored[k] = narrow<T>(values[k]);
    store(row + column, stored);
  } else {
#pragma unroll
    for (int k = 0; k < kLaneSums; ++k) {
      if (column + k < n) row[column + k] = narrow<T>(values[k]);
    }
  }
}

/// The sum of a warp's running sums (`ordered_sum` with W = 32), in every lane. `sum` is used up.
__device__ __forceinline__ float ordered_warp_sum(float (&sum)[kLaneSums]) {
#pragma unroll
  for (int lanes = kWarp / 2; lanes > 0; lanes /= 2) {
#pragma unroll
    for (int k = 0; k < kLaneSums; ++k) {
      sum[k] += __shfl_down_sync(kAll, sum[k], lanes);
    }
  }
  return __shfl_sync(kAll, sum_of_lane(sum), 0);
}

}  // namespace rev::cuda
