// The arithmetic of a fixed point's iteration on the grid, x <- y - rint(f(x) 2^k), beside
// grid_math.h's update.
#pragma once

#include <cstdint>

#include "cuda/grid_math.h"
#include "cuda/host_device.h"

namespace rev::cuda {

/// |a - b|, which can be as large as 2^32 - 1.
REV_HOST_DEVICE uint32_t distance(int32_t a, int32_t b) {
  const auto x = static_cast<uint32_t>(a), y = static_cast<uint32_t>(b);
  return a > b ? x - y : y - x;
}

}  // namespace rev::cuda
