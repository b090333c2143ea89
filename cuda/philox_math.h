// Philox4x32-10 (Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2, 3; 2011):
// four numbers of 32 bits that are a function of a counter (128 bits) and a key (64 bits), so that
// a mask can be drawn again, in any order, from two numbers.
#pragma once

#include <cstdint>

#include "cuda/host_device.h"

namespace rev::cuda {

constexpr int kPhiloxRounds = 10;

/// Round `round`, from 0, on the words (x, y, z, w) of a counter, in place, for the key (k0, k1).
REV_HOST_DEVICE void philox_round(uint32_t& x, uint32_t& y, uint32_t& z, uint32_t& w, uint32_t k0,
                                  uint32_t k1, uint32_t round) {
  const uint64_t a = uint64_t{0xd2511f53u} * x, b = uint64_t{0xcd9e8d57u} * z;
  x = static_cast<uint32_t>(b >> 32) ^ y ^ (k0 + round * 0x9e3779b9u);
  y = static_cast<uint32_t>(b);
  z = static_cast<uint32_t>(a >> 32) ^ w ^ (k1 + round * 0xbb67ae85u);
  w = static_cast<uint32_t>(a);
}

/// The four numbers of a counter, in its place.
REV_HOST_DEVICE void philox4x32_10(uint32_t& x, uint32_t& y, uint32_t& z, uint32_t& w, uint32_t k0,
                                   uint32_t k1) {
  for (uint32_t round = 0; round < kPhiloxRounds; ++round) {
    philox_round(x, y, z, w, k0, k1, round);
  }
}

/// The counter of group `group` in a stream with this offset.
REV_HOST_DEVICE void philox_counter(uint64_t offset, uint64_t group, uint32_t& x, uint32_t& y,
                                    uint32_t& z, uint32_t& w) {
  const uint64_t block = offset / 4;
  x = static_cast<uint32_t>(block);
  y = static_cast<uint32_t>(block >> 32);
  z = static_cast<uint32_t>(group);
  w = static_cast<uint32_t>(group >> 32);
}

/// The numbers 4 group to 4 group + 3 of a stream (seed, offset): those that cuRAND's Philox gives
/// thread `group` with this seed at this offset, which is a multiple of 4 as it counts numbers of a
/// thread. So what other operators draw at other offsets of the generator is different.
REV_HOST_DEVICE void philox_numbers(uint64_t seed, uint64_t offset, uint64_t group, uint32_t& x,
                                    uint32_t& y, uint32_t& z, uint32_t& w) {
  philox_counter(offset, group, x, y, z, w);
  philox4x32_10(x, y, z, w, static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32));
}

}  // namespace rev::cuda
