// What kernels share on the device: 128-bit accesses and sums over a warp.
#pragma once

#include <cstdint>
#include <cstring>
#include <cuda_runtime.h>

#include "cuda/launch.h"

namespace rev::cuda {

constexpr int kWarp = 32;
constexpr int kWarpsOfBlock = kBlock / kWarp;
constexpr unsigned kAll = 0xffffffffu;  // lanes, the mask of a whole warp

/// The first of the rows that this warp takes where each warp of a grid takes a row at a time, and
/// how far apart its rows are.
__device__ __forceinline__ int64_t first_row() {
  return (int64_t{blockIdx.x} * kBlock + threadIdx.x) / kWarp;
}
__device__ __forceinline__ int64_t rows_apart() { return int64_t{gridDim.x} * kWarpsOfBlock; }

/// N consecutive elements, in 128-bit accesses where they fill one (then p must be aligned to 16).
template <int N, class T>
__device__ __forceinline__ void load(const T* p, T (&values)[N]) {
  if constexpr (N * sizeof(T) >= sizeof(uint4)) {
    constexpr int kEach = sizeof(uint4) / sizeof(T);
#pragma unroll
    for (int j = 0; j < N; j += kEach) {
      const uint4 word = *reinterpret_cast<const uint4*>(p + j);
      memcpy(values + j, &word, sizeof word);
    }
  } else {
#pragma unroll
    for (int j = 0; j < N; ++j) values[j] = p[j];
  }
}

template <int N, class T>
__device__ __forceinline__ void store(T* p, const T (&values)[N]) {
  if constexpr (N * sizeof(T) >= sizeof(uint4)) {
    constexpr int kEach = sizeof(uint4) / sizeof(T);
#pragma unroll
    for (int j = 0; j < N; j += kEach) {
      uint4 word;
      memcpy(&word, values + j, sizeof word);
      // Where scalar stores are on another path, nvcc makes scalar ones of an assignment, too.
      __stcg(reinterpret_cast<uint4*>(p + j), word);
    }
  } else {
#pragma unroll
    for (int j = 0; j < N; ++j) p[j] = values[j];
  }
}

/// The sum of the values of this lane and those before it.
__device__ __forceinline__ int sum_up_to_lane(int value) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
#pragma unroll
  for (int lanes = 1; lanes < kWarp; lanes *= 2) {
    const int other = __shfl_up_sync(kAll, value, lanes);
    if (lane >= lanes) value += other;
  }
  return value;
}

/// The lanes that have a value, and the same one as this lane: values from 0 to below - 1.
__device__ __forceinline__ unsigned lanes_with(int value, int below, bool exists) {
  unsigned same = __ballot_sync(kAll, exists);
#pragma unroll
  for (int bit = 1; bit < below; bit *= 2) {
    const unsigned ones = __ballot_sync(kAll, value & bit);
    same &= (value & bit) != 0 ? ones : ~ones;
  }
  return same;
}

/// The last of `count` entries whose `first` is not beyond `place`; the first one's never is.
template <class Entry>
__device__ __forceinline__ int entry_of(const Entry* entries, int count, int64_t place) {
  int entry = 0;
  for (int end = count; end - entry > 1;) {
    const int middle = (entry + end) / 2;
    if (entries[middle].first <= place) {
      entry = middle;
    } else {
      end = middle;
    }
  }
  return entry;
}

/// The sum over a warp, in its first lane.
__device__ __forceinline__ uint64_t warp_sum(uint64_t value) {
#pragma unroll
  for (int lanes = kWarp / 2; lanes > 0; lanes /= 2) {
    value += __shfl_down_sync(kAll, value, lanes);
  }
  return value;
}

}  // namespace rev::cuda
