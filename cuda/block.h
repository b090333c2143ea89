// How a row of floats is shared: by a warp, or by a block of kBlock threads. Each lane holds
// kLaneSums running sums, and what is said of a row is in every one of its lanes.
//
// W: lanes of a row, kWarp or kBlock. All of them must take part in each call.
#pragma once

#include <cmath>
#include <cstdint>
#include <cuda_runtime.h>

#include "cuda/bfloat16.h"
#include "cuda/launch.h"
#include "cuda/row.h"
#include "cuda/softmax_math.h"
#include "cuda/sum_math.h"
#include "cuda/warp.h"

namespace rev::cuda {

/// Whether each row starts at a multiple of 16 bytes, rows being `stride` elements apart.
template <class T>
bool wide_starts(const T* rows, int64_t stride) {
  return aligned_16(rows) && stride * sizeof(T) % 16 == 0;
}

static_assert(kWarpsOfBlock == kLaneSums);  // sum_of_lane adds up the warps' sums, too

/// What the warps of a row exchange, in shared memory.
template <int W>
struct Exchange {
  float sums[kLaneSums * kBlock];
  float totals[kLaneSums];
  float maxima[kWarpsOfBlock];
};
template <>
struct Exchange<kWarp> {};

/// Waits for the row's lanes, and for what they wrote.
template <int W>
__device__ __forceinline__ void wait_for_row() {
  if constexpr (W == kWarp) {
    __syncwarp();
  } else {
    __syncthreads();
  }
}

/// values[k] = row[column + k], -inf beyond the row's n elements. kWide: the row starts at a
/// multiple of 16 bytes. T: float or BFloat16.
template <bool kWide, class T>
__device__ __forceinline__ void load_inside(const T* row, int column, int n,
                                            T (&values)[kLaneSums]) {
  if (kWide && column + kLaneSums <= n) {
    load(row + column, values);
  } else {
#pragma unroll
    for (int k = 0; k < kLaneSums; ++k) {
      values[k] = column + k < n ? row[column + k] : narrow<T>(-INFINITY);
    }
  }
}

/// row[column + k] = values[k] where that is inside the row. (`store_floats` of row.h has columns
/// of 64 bits, with which kl.cu's kernels spill.)
template <bool kWide, class T>
__device__ __forceinline__ void store_inside(T* row, int column, int n,
                                             const float (&values)[kLaneSums]) {
  if (kWide && column + kLaneSums <= n) {
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

/// The sum of the row's running sums, in the order of sum_math.h. `sum` is used up.
template <int W>
__device__ __forceinline__ float ordered_row_sum(float (&sum)[kLaneSums], Exchange<W>& exchange) {
  if constexpr (W == kWarp) {
    return ordered_warp_sum(sum);
  } else {
    const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
#pragma unroll
    for (int k = 0; k < kLaneSums; ++k) {
      exchange.sums[(warp * kLaneSums + k) * kWarp + lane] = sum[k];
    }
    __syncthreads();
    // Warp k adds up the running sums k of all lanes: over the warps, then over its own lanes.
    float of_warp[kWarpsOfBlock];
#pragma unroll
    for (int w = 0; w < kWarpsOfBlock; ++w) {
      of_warp[w] = exchange.sums[(w * kLaneSums + warp) * kWarp + lane];
    }
    float total = sum_of_lane(of_warp);
#pragma unroll
    for (int lanes = kWarp / 2; lanes > 0; lanes /= 2) {
      total += __shfl_down_sync(kAll, total, lanes);
    }
    if (lane == 0) exchange.totals[warp] = total;
    __syncthreads();
    return sum_of_lane(exchange.totals);
  }
}

/// The running sums of a softmax, this lane's and its warp's maximum (softmax_math.h).
struct LaneSoftmax {
  float max = kLowest;
  float sum[kLaneSums] = {};

  /// Takes in the next 256 elements of the warp, of which these are the lane's.
  __device__ __forceinline__ void add(const float (&values)[kLaneSums], float scale) {
    float largest = max;
#pragma unroll
    for (int k = 0; k < kLaneSums; ++k) largest = larger(values[k], largest);
    if (__any_sync(kAll, largest > max)) {
#pragma unroll
      for (int lanes = kWarp / 2; lanes > 0; lanes /= 2) {
        largest = larger(__shfl_xor_sync(kAll, largest, lanes), largest);
      }
      move_to(largest, scale);
    }
#pragma unroll
    for (int k = 0; k < kLaneSums; ++k) sum[k] += exp_or_zero((values[k] - max) * scale);
  }

  __device__ __forceinline__ void move_to(float to, float scale) {
    const float factor = exp_or_zero((max - to) * scale);
#pragma unroll
    for (int k = 0; k < kLaneSums; ++k) sum[k] *= factor;
    max = to;
  }

  /// The whole row's. This is used up.
  template <int W>
  __device__ __forceinline__ Softmax total(float scale, Exchange<W>& exchange) {
    if constexpr (W == kBlock) {
      if (threadIdx.x % kWarp == 0) exchange.maxima[threadIdx.x / kWarp] = max;
      __syncthreads();
      float largest = exchange.maxima[0];
#pragma unroll
      for (int w = 1; w < kWarpsOfBlock; ++w) largest = larger(exchange.maxima[w], largest);
      move_to(largest, scale);
    }
    return {max, ordered_row_sum<W>(sum, exchange)};
  }
};

/// The softmax of a row of n elements. T: float or BFloat16.
template <bool kWide, int W, class T>
__device__ __forceinline__ Softmax row_softmax(const T* row, int n, float scale,
                                               Exchange<W>& exchange) {
  constexpr int kRound = W * kLaneSums;
  LaneSoftmax softmax;
  T next[kLaneSums];
  int column = static_cast<int>(threadIdx.x) % W * kLaneSums;
  load_inside<kWide>(row, column, n, next);
  for (int done = 0; done < n; done += kRound) {
    float values[kLaneSums];
#pragma unroll
    for (int k = 0; k < kLaneSums; ++k) values[k] = widen(next[k]);
    column += kRound;
    load_inside<kWide>(row, column, n, next);  // is on its way while the others are added
    softmax.add(values, scale);
  }
  return softmax.total<W>(scale, exchange);
}

}  // namespace rev::cuda
