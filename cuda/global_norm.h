// Launchers of the norm over a list of tensors (global_norm.cu), in the order of global_norm_math.h
// and with the bits of the CPU path.
//
// All pointers that kernels read are device pointers, all work is queued on `stream`. The list is
// the host's, and is passed by value. Nothing is checked here: the callers in src/kernels did.
// Throws std::runtime_error where a launch fails.
#pragma once

#include <cstdint>

#include "cuda/bfloat16.h"
#include "cuda/stream.h"

namespace rev::cuda {

/// A tensor's n elements, and where the sums of its slices go, ceil(n / kNormSlice) of them. T:
/// float or BFloat16.
template <class T>
struct NormTensor {
  const T* x;
  int64_t n;
  float* sums;
};

/// sums[i] = the squares' sum of slice i, for each of `count` tensors. `tensors`: a list of the
/// host's.
template <class T>
void launch_square_sums(const NormTensor<T>* tensors, int64_t count, Stream stream);

/// norm = sqrt(sum of sums[0..slices)), factor = min(1, most / norm), or 1 where norm is not
/// finite; then *not_finite, unless it is null, becomes 1, and else is left alone.
void launch_global_norm(float* norm, float* factor, int32_t* not_finite, const float* sums,
                        int64_t slices, float most, Stream stream);

}  // namespace rev::cuda
