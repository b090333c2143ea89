// What kernels do to a state's cells, for those that update states alone (grid.cu) and those that
// take the norm in the same pass (update_norm.cu).
//
// An operation: kWidest, the most cells whose operands fill whole 128-bit accesses; kReads,
// kWrites, whether it needs the cells and whether it changes them; and what it does to the N cells
// at `offset`.
#pragma once

#include <cstdint>
#include <cuda_runtime.h>

#include "cuda/bfloat16.h"
#include "cuda/grid_math.h"
#include "cuda/warp.h"

namespace rev::cuda {

template <class F>
struct Update {
  static constexpr int kWidest = 16 / sizeof(F);
  static constexpr bool kReads = true, kWrites = true;
  const F* f;
  float scale;

  template <int N>
  __device__ void operator()(int32_t (&y)[N], int64_t offset, uint32_t& out) const {
    F increment[N];
    load(f + offset, increment);
#pragma unroll
    for (int j = 0; j < N; ++j) y[j] = grid::update(y[j], widen(increment[j]), scale, out);
  }
};

template <class F>
struct Reflect {
  static constexpr int kWidest = 16 / sizeof(F);
  static constexpr bool kReads = true, kWrites = true;
  const int32_t* x;
  const F* f;
  float scale;

  template <int N>
  __device__ void operator()(int32_t (&y)[N], int64_t offset, uint32_t& out) const {
    int32_t mirror[N];
    F increment[N];
    load(x + offset, mirror);
    load(f + offset, increment);
#pragma unroll
    for (int j = 0; j < N; ++j) {
      y[j] = grid::reflect(y[j], mirror[j], widen(increment[j]), scale, out);
    }
  }
};

template <class F>
struct Blend {
  static constexpr int kWidest = 16 / sizeof(F);
  static constexpr bool kReads = true, kWrites = true;
  const int32_t* x;
  float b;
  const F* f;
  float scale;

  template <int N>
  __device__ void operator()(int32_t (&y)[N], int64_t offset, uint32_t& out) const {
    int32_t other[N];
    F increment[N];
    load(x + offset, other);
    load(f + offset, increment);
#pragma unroll
    for (int j = 0; j < N; ++j) {
      y[j] = grid::blend(y[j], other[j], b, widen(increment[j]), scale, out);
    }
  }
};

/// Adds w_j y_j for N words, w_j their weights.
template <int N>
__device__ __forceinline__ void add_words(uint64_t& sum, const int32_t (&y)[N],
                                          const uint32_t (&w)[N]) {
#pragma unroll
  for (int j = 0; j < N; ++j) sum += uint64_t{w[j]} * static_cast<uint32_t>(y[j]);
}

}  // namespace rev::cuda
