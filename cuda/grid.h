// Launchers of the grid's kernels (grid.cu): states of int32 cells, their updates, and the row sums
// that prove them. The arithmetic is grid_math.h's, so the bits are those of the CPU path.
//
// All pointers are device pointers to contiguous memory, all work is queued on `stream`. Nothing is
// checked here: the callers in src/kernels did. Throws std::runtime_error where a launch fails.
#pragma once

#include <cstdint>

#include "cuda/bfloat16.h"
#include "cuda/stream.h"

namespace rev::cuda {

/// Size of a state [rows, width].
struct Rows {
  int64_t rows;
  int64_t width;
};

/// What an update notes in the same pass; null where it is not asked to.
struct Probe {
  int64_t* before = nullptr;     ///< [rows], row sums of the state before
  int64_t* after = nullptr;      ///< [rows], row sums of the state after
  int32_t* saturated = nullptr;  ///< set to 1 where the range was left or f is NaN; else left alone
};

/// A factor n / m with its sign; n and m from 1 to 2^24.
struct Ratio {
  uint32_t n;
  uint32_t m;
  bool negative;
};

/// y = rint(x scale).
void launch_encode(int32_t* y, const float* x, float scale, Rows size, const Probe& probe,
                   Stream stream);

/// x = y unit, over n elements.
void launch_decode(float* x, const int32_t* y, float unit, int64_t n, Stream stream);

/// y += rint(f scale). F: float or BFloat16.
template <class F>
void launch_update(int32_t* y, const F* f, float scale, Rows size, const Probe& probe,
                   Stream stream);

/// y <- 2 x - y + rint(f scale). F: float or BFloat16.
template <class F>
void launch_reflect(int32_t* y, const int32_t* x, const F* f, float scale, Rows size,
                    const Probe& probe, Stream stream);

/// y += rint(b x + f scale). F: float or BFloat16.
template <class F>
void launch_blend(int32_t* y, const int32_t* x, float b, const F* f, float scale, Rows size,
                  const Probe& probe, Stream stream);

/// y <- a y, with the digits that this loses or needs in `digits`. D: uint32_t or uint64_t.
template <class D>
void launch_scale(int32_t* y, D* digits, const Ratio& a, Rows size, const Probe& probe,
                  Stream stream);

/// Undoes `launch_scale`.
template <class D>
void launch_unscale(int32_t* y, D* digits, const Ratio& a, Rows size, const Probe& probe,
                    Stream stream);

/// y <- -y where `negative`, else y as it is: a factor of one has no digits.
void launch_sign(int32_t* y, bool negative, Rows size, const Probe& probe, Stream stream);

/// sums[row] = sum_j weight(j) words[row, j] modulo 2^64.
void launch_row_sums(int64_t* sums, const int32_t* words, Rows size, Stream stream);

}  // namespace rev::cuda
