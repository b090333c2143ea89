// Launchers of AdamW's step over a list of tensors (adamw.cu); the arithmetic is adamw_math.h's, so
// the bits are those of the CPU path.
//
// All pointers that kernels read are device pointers, all work is queued on `stream`. The lists
// themselves are the host's and are passed by value with each launch: nothing is allocated or
// copied, and a launch that is captured in a CUDA graph reads the rate, the counts of steps, the
// clip factor and the flag as they are when it is replayed. Nothing is checked here: the callers in
// src/kernels did. Throws std::runtime_error where a launch fails.
#pragma once

#include <cstdint>

#include "cuda/adamw_math.h"
#include "cuda/bfloat16.h"
#include "cuda/stream.h"

namespace rev::cuda {

/// A tensor of n elements and its state. W and G: float or BFloat16; M: float, or uint8_t for
/// moments of eight bits, which have a scale for each 256 elements, the last of them maybe fewer.
template <class W, class G, class M>
struct AdamWTensor {
  W* weight;
  const G* grad;
  M* exp_avg;
  M* exp_avg_sq;
  float* exp_avg_scale;     ///< [ceil(n / 256)], with M = uint8_t; else null
  float* exp_avg_sq_scale;  ///< as exp_avg_scale
  float* master;            ///< the weight in float32, with W = BFloat16; null without one
  const float* step;        ///< t, one number: the count of steps, this one included
  int64_t n;
  float weight_decay;
};

/// A step's settings, and what it reads on the device.
struct AdamWStep {
  AdamWSettings settings;
  const float* lr;      ///< one number
  const float* clip;    ///< one number; null: 1
  const int32_t* skip;  ///< one number: where it is not 0, nothing changes; null: 0
};

/// t <- t + 1 for `count` counts, or as they were where *skip is not 0. `steps`: a list of the
/// host's, of pointers to the device; no count comes twice.
void launch_count_steps(float* const* steps, int64_t count, const int32_t* skip, Stream stream);

/// One step of `count` tensors. `tensors`: a list of the host's. With a master copy the step is
/// taken on it, and the weight is the copy rounded; where it was not before, the weight was changed
/// by someone else, and the step is taken from it.
template <class W, class G, class M>
void launch_adamw(const AdamWTensor<W, G, M>* tensors, int64_t count, const AdamWStep& step,
                  Stream stream);

}  // namespace rev::cuda
