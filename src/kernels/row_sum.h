// cuda::ordered_sum by vectors, for functions that are marked REV_VECTOR_WIDTHS: it has more
// running sums than the compiler, left to itself, keeps in registers.
//
//   row_sum(n, [=](auto j) REV_INLINE_LAMBDA { return at(x, j) * at(w, j); })
//
// j stands for eight columns at a time, and for one at a time where fewer are left.
#pragma once

#include <cstdint>
#include <cstring>

#include "cuda/sum_math.h"
#include "kernels/vectors.h"

// A function of its own would be compiled for the oldest of processors, and given vectors in
// memory.
#define REV_INLINE [[gnu::always_inline]] inline
#define REV_INLINE_LAMBDA __attribute__((always_inline))
#pragma GCC diagnostic ignored "-Wpsabi"  // so that none is given any

namespace rev::kernels {

using Floats8 = float __attribute__((vector_size(32)));

/// Columns `first` to `first` + 7.
struct Eight {
  int64_t first;
};

/// Column `first`.
struct One {
  int64_t first;
};

REV_INLINE float at(const float* row, One j) { return row[j.first]; }
REV_INLINE Floats8 at(const float* row, Eight j) {
  Floats8 values;
  std::memcpy(&values, row + j.first, sizeof values);
  return values;
}

/// cuda::ordered_sum<32> of term(j) over n columns.
template <class Term>
REV_INLINE float row_sum(int64_t n, const Term& term) {
  constexpr int64_t kAll = 32 * cuda::kLaneSums;      // running sums
  constexpr int kVectors = 8, kBlock = kVectors * 8;  // of which so many stay in registers
  Floats8 sums[4][kVectors];
  static_assert(sizeof sums == kAll * sizeof(float));
#pragma GCC unroll 4
  for (int block = 0; block < 4; ++block) {
    Floats8 sum[kVectors] = {};
    int64_t j = block * kBlock;
    for (; j + kBlock <= n; j += kAll) {
#pragma GCC unroll 8
      for (int k = 0; k < kVectors; ++k) sum[k] += term(Eight{j + 8 * k});
    }
    if (j < n) {  // sums are never -0, so that adding 0 changes none
      float rest[kBlock] = {};
      int64_t i = 0;
      for (; j + i + 8 <= n; i += 8) {
        const Floats8 values = term(Eight{j + i});
        std::memcpy(rest + i, &values, sizeof values);
      }
      for (; j + i < n; ++i) rest[i] = term(One{j + i});
#pragma GCC unroll 8
      for (int k = 0; k < kVectors; ++k) sum[k] += at(rest, Eight{8 * k});
    }
#pragma GCC unroll 8
    for (int k = 0; k < kVectors; ++k) sums[block][k] = sum[k];
  }
#pragma GCC unroll 8
  for (int k = 0; k < 8; ++k) sums[0][k] = (sums[0][k] + sums[2][k]) + (sums[1][k] + sums[3][k]);
#pragma GCC unroll 4
  for (int k = 0; k < 4; ++k) sums[0][k] += sums[0][k + 4];
  const Floats8 last = (sums[0][0] + sums[0][2]) + (sums[0][1] + sums[0][3]);
  float lane[cuda::kLaneSums];
  std::memcpy(lane, &last, sizeof lane);
  return cuda::sum_of_lane(lane);
}

}  // namespace rev::kernels
