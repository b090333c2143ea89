// Launchers of the kernels of RevFFN's fixed point (fixed_point.cu): x = y - f(x) on the grid, by
// iteration, each token (a row of x) until it settles. Pointers and streams as in grid.h.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cuda/bfloat16.h"
#include "cuda/grid.h"
#include "cuda/stream.h"

namespace rev::cuda {

/// values[i, c] = x[index[i], c] unit, [n, width].
void launch_gather_cells(float* values, const int32_t* x, const int64_t* index, float unit,
                         Rows size, Stream stream);

/// Tokens that have not settled.
struct FixedPointTokens {
  const int64_t* index;  ///< [n], rows of x, each once
  const int64_t*
      moved;  ///< [n], the largest move of a cell in the step before; null: there is none
  int64_t n;
};

/// Moves of a token, in cells.
struct FixedPointMoves {
  int64_t settled;  ///< up to which a token counts as settled
  int64_t noise;    ///< up to which it says nothing of f's contraction
};

/// What a step writes.
struct FixedPointStep {
  int64_t* index;    ///< [n], the tokens that have not settled yet, in the order of before
  int64_t* moved;    ///< [n], the largest move of a cell of each of them
  int64_t* record;   ///< [3], how many these are; of all tokens whose move in the step before was
                     ///< above noise: the sum of those moves, and the sum of the moves in this step
  int64_t* scratch;  ///< [fixed_point_scratch(n)]
};

/// Blocks at most. What they write does not depend on it.
constexpr unsigned kMostSlices = 1024;

constexpr int kFixedPointCounts = 3;  // of a slice: its part of FixedPointStep::record

/// A move of each token, and the counts of as many slices as there can be.
inline int64_t fixed_point_scratch(int64_t n) {
  return n + kFixedPointCounts * std::clamp<int64_t>(n, 1, kMostSlices);
}

/// x[r] <- y[r] - rint(f[i] scale), r = index[i], for tokens i. x, y: [.., width], f: [n, width].
/// Two kernels; what they write does not depend on the order of threads. F: float or BFloat16.
template <class F>
void launch_fixed_point_step(int32_t* x, const int32_t* y, const F* f, float scale, int64_t width,
                             const FixedPointTokens& tokens, const FixedPointMoves& moves,
                             const FixedPointStep& step, Stream stream,
                             unsigned most_slices = kMostSlices);

/// Where sums[r] differs from expected[r]: x[r] <- the cells nearest to y[r] - rint(f[r] scale)
/// whose `count` low bits are the packed ones (low_bits_math.h), and sums[r] <- x[r]'s row sum.
template <class F>
void launch_correct_cells(int32_t* x, const int32_t* y, const F* f, float scale,
                          const uint8_t* packed, int count, Rows size, const int64_t* expected,
                          int64_t* sums, Stream stream);

}  // namespace rev::cuda
