// Launchers of the Kullback-Leibler divergence's kernels (kl.cu). The arithmetic is kl_math.h's and
// softmax_math.h's, so the bits are those of the CPU path.
//
// All pointers are device pointers, all work is queued on `stream`. Nothing is checked here: the
// callers in src/kernels did. Throws std::runtime_error where a launch fails.
#pragma once

#include <cstdint>

#include "cuda/bfloat16.h"
#include "cuda/stream.h"

namespace rev::cuda {

/// Size of two sets of logits [rows, width], and how far apart each one's rows start, in elements.
struct KlRows {
  int64_t rows;
  int64_t width;
  int64_t teacher_stride;
  int64_t student_stride;
};

/// What a divergence is made with.
struct KlTerms {
  float scale = 1;       ///< 1 / temperature
  float factor = 1;      ///< of the gradient
  bool reverse = false;  ///< KL(student || teacher), and not KL(teacher || student)
};

/// The divergence of each row, [rows], and its gradient times terms.factor over the student's
/// logits; 0 for both where the row's target is kIgnoredTarget (targets: [rows], contiguous, or
/// null). T: float or BFloat16. Rows are read in 128-bit accesses where all of them start at
/// multiples of 16 bytes.
template <class T>
void launch_kl_gradient(const T* teacher, T* student, const int64_t* targets, float* divergence,
                        const KlRows& size, const KlTerms& terms, Stream stream);

/// The same without the gradient; the student's logits are left alone.
template <class T>
void launch_kl(const T* teacher, const T* student, const int64_t* targets, float* divergence,
               const KlRows& size, const KlTerms& terms, Stream stream);

}  // namespace rev::cuda
