// What the reconstruction check's CPU path and kernels share.
#pragma once

#include <cstdint>
#include <cstring>

#include "cuda/host_device.h"

namespace rev::cuda {

// The bits of |x|, as whole numbers in the order of the magnitudes: so their maximum is the largest
// magnitude, whatever the order in which it is taken. Any NaN becomes the quiet one, which is above
// infinity: it is never lost.

REV_HOST_DEVICE uint32_t magnitude_bits(float x) {
  constexpr uint32_t kInfinity = 0x7f800000u, kNaN = 0x7fc00000u;
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  bits &= 0x7fffffffu;
  return bits > kInfinity ? kNaN : bits;
}

REV_HOST_DEVICE uint64_t magnitude_bits(double x) {
  constexpr uint64_t kInfinity = 0x7ff0000000000000u, kNaN = 0x7ff8000000000000u;
  uint64_t bits;
  memcpy(&bits, &x, sizeof bits);
  bits &= 0x7fffffffffffffffu;
  return bits > kInfinity ? kNaN : bits;
}

}  // namespace rev::cuda
