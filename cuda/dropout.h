// Launchers of dropout's kernels (dropout.cu). Pointers and streams as in grid.h.
#pragma once

#include <cstdint>

#include "cuda/bfloat16.h"
#include "cuda/host_device.h"
#include "cuda/stream.h"

namespace rev::cuda {

/// A stream of random numbers (philox_math.h).
struct Philox {
  uint64_t seed = 0;
  uint64_t offset = 0;  ///< a multiple of 4
  /// Where not null: read when the kernel runs and added to `offset`, so that a captured graph
  /// takes other numbers each time that it is replayed.
  const int64_t* offset_at = nullptr;
};

/// Element i is kept where the stream's number i is below `threshold`, and multiplied by `scale`.
struct Kept {
  uint32_t threshold;
  float scale;
};

/// x scale where the number says that x is kept, else x 0, which is NaN where x is not finite.
REV_HOST_DEVICE float keep_scaled(float x, uint32_t number, const Kept& keep) {
  return x * (number < keep.threshold ? keep.scale : 0.0f);
}

/// y_i = x_i keep_i, keep_i = scale or 0; n elements. x and y may be the same. T: float or
/// BFloat16.
template <class T>
void launch_dropout(T* y, const T* x, int64_t n, const Kept& keep, const Philox& from,
                    Stream stream);

/// mask_i = 1 where element i is kept, else 0.
void launch_dropout_mask(uint8_t* mask, int64_t n, uint32_t threshold, const Philox& from,
                         Stream stream);

}  // namespace rev::cuda
