// Launchers of the cross-entropy's kernels (cross_entropy.cu). The arithmetic is
// cross_entropy_math.h's and softmax_math.h's, so the bits are those of the CPU path.
//
// All pointers are device pointers, all work is queued on `stream`. Nothing is checked here: the
// callers in src/kernels did. Throws std::runtime_error where a launch fails.
#pragma once

#include <cstdint>

#include "cuda/bfloat16.h"
#include "cuda/cross_entropy_math.h"
#include "cuda/stream.h"

namespace rev::cuda {

/// Size of logits [rows, width], and how far apart their rows start, in elements.
struct LogitRows {
  int64_t rows;
  int64_t width;
  int64_t stride;
};

/// What is written for each row; contiguous.
struct RowLosses {
  float* loss;           ///< [rows]
  float* lse = nullptr;  ///< [rows]; null where it is not asked for
};

/// The loss of each row, its lse, and its gradient times terms.factor over the logits; 0 for all
/// where the target is kIgnoredTarget. NaN where the target is another outside of the row.
/// targets: [rows], contiguous. T: float or BFloat16. Rows are read in 128-bit accesses where they
/// start at multiples of 16 bytes.
template <class T>
void launch_cross_entropy_gradient(T* logits, const int64_t* targets, const RowLosses& to,
                                   const LogitRows& size, const CrossEntropy& terms, Stream stream);

/// The same without the gradient; the logits are left alone.
template <class T>
void launch_cross_entropy(const T* logits, const int64_t* targets, const RowLosses& to,
                          const LogitRows& size, const CrossEntropy& terms, Stream stream);

}  // namespace rev::cuda
