// What kernels share on the device: 128-bit accesses and sums over a warp.
#pragma once

#include <cstdint>
#include <cstring>
#include <cuda_runtime.h>

namespace rev::cuda {

constexpr int kWarp = 32;

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

/// The sum over a warp, in its first lane.
__device__ __forceinline__ uint64_t warp_sum(uint64_t value) {
#pragma unroll
  for (int lanes = kWarp / 2; lanes > 0; lanes /= 2) {
    value += __shfl_down_sync(0xffffffffu, value, lanes);
  }
  return value;
}

}  // namespace rev::cuda
