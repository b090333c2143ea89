// bfloat16 by its bits, so that the CPU path and the kernels convert alike in every bit.
#pragma once

#include <cstdint>
#include <cstring>

#include "cuda/host_device.h"

namespace rev::cuda {

/// A bfloat16: the upper half of a float32.
struct BFloat16 {
  uint16_t bits;
};

REV_HOST_DEVICE float widen(float x) { return x; }
REV_HOST_DEVICE float widen(BFloat16 x) {
  const uint32_t word = uint32_t{x.bits} << 16;
  float value;
  memcpy(&value, &word, sizeof value);
  return value;
}

/// x as a T (float or BFloat16): to nearest, ties to even; any NaN becomes the quiet one.
template <class T>
REV_HOST_DEVICE T narrow(float x);

template <>
REV_HOST_DEVICE float narrow<float>(float x) {
  return x;
}

template <>
REV_HOST_DEVICE BFloat16 narrow<BFloat16>(float x) {
  uint32_t word;
  memcpy(&word, &x, sizeof word);
  const uint32_t rounded = word + 0x7fffu + ((word >> 16) & 1u);
  return {x == x ? static_cast<uint16_t>(rounded >> 16) : uint16_t{0x7fc0}};
}

}  // namespace rev::cuda
