// By which threads of a block or a warp wait for each other and exchange values.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "emulator/scheduler.h"

namespace rev::emulator {

/// Waits for all threads of the block; returns for how many of them `predicate` is not 0.
int block_barrier(int predicate, const Site& site);

/// Waits for the lanes of the mask; the last to come calls `combine` for all.
uint64_t meet(unsigned mask, uint64_t value, int argument, Combine combine, const Site& site);

/// Waits for the lanes of the mask and orders what they did to memory.
void warp_barrier(unsigned mask, const Site& site);

/// A combine: each lane takes what the lane `argument` brought.
void take_from_lane(Meeting& meeting);

template <class T>
uint64_t to_bits(T value) {
  static_assert(std::is_arithmetic_v<T> && (sizeof(T) == 4 || sizeof(T) == 8),
                "CUDA exchanges numbers of 4 and 8 bytes");
  uint64_t bits = 0;
  memcpy(&bits, &value, sizeof value);
  return bits;
}

template <class T>
T from_bits(uint64_t bits) {
  T value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

/// A combine: all lanes take operation(... operation(a, b) ..., z) of what they brought.
template <class T, T (*operation)(T, T)>
void reduce(Meeting& meeting) {
  T all{};
  bool first = true;
  for (unsigned lane = 0; lane < kWarpLanes; ++lane) {
    if ((meeting.mask >> lane & 1) == 0) continue;
    const T value = from_bits<T>(meeting.brought[lane]);
    all = first ? value : operation(all, value);
    first = false;
  }
  for (uint64_t& taken : meeting.taken) taken = to_bits(all);
}

/// The value of lane `source`, or the caller's own where `inside` is false.
template <class T>
T shuffle(unsigned mask, T value, int source, bool inside, const Site& site) {
  const int lane = static_cast<int>(here.thread->lane());
  return from_bits<T>(meet(mask, to_bits(value), inside ? source : lane, take_from_lane, site));
}

/// The first lane of the caller's section of `width` lanes, and the last.
inline int first_lane(int width) { return static_cast<int>(here.thread->lane()) & -width; }
inline int last_lane(int width) { return first_lane(width) + width - 1; }
inline int own_lane() { return static_cast<int>(here.thread->lane()); }

template <class T>
T add(T a, T b) {
  return static_cast<T>(static_cast<std::make_unsigned_t<T>>(a) +
                        static_cast<std::make_unsigned_t<T>>(b));
}
template <class T>
T least(T a, T b) {
  return b < a ? b : a;
}
template <class T>
T greatest(T a, T b) {
  return a < b ? b : a;
}
template <class T>
T bits_and(T a, T b) {
  return a & b;
}
template <class T>
T bits_or(T a, T b) {
  return a | b;
}
template <class T>
T bits_xor(T a, T b) {
  return a ^ b;
}

template <class T, T (*operation)(T, T)>
T warp_reduce(unsigned mask, T value, const Site& site) {
  return from_bits<T>(meet(mask, to_bits(value), 0, reduce<T, operation>, site));
}

}  // namespace rev::emulator

// ---- barriers ----

inline void __syncthreads(REV_SITE) { rev::emulator::block_barrier(0, site); }
inline int __syncthreads_count(int predicate, REV_SITE) {
  return rev::emulator::block_barrier(predicate, site);
}
inline int __syncthreads_or(int predicate, REV_SITE) {
  return rev::emulator::block_barrier(predicate, site) != 0 ? 1 : 0;
}
inline int __syncthreads_and(int predicate, REV_SITE) {
  const int yes = rev::emulator::block_barrier(predicate, site);
  return yes == static_cast<int>(rev::emulator::threads_in_block()) ? 1 : 0;
}
inline void __syncwarp(unsigned mask = 0xffffffffu, REV_SITE) {
  rev::emulator::warp_barrier(mask, site);
}

// ---- shuffles: lanes exchange values within sections of `width` lanes, a power of two ----

template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, REV_SITE) {
  const int lane = rev::emulator::first_lane(width) + (source & (width - 1));
  return rev::emulator::shuffle(mask, value, lane, true, site);
}

template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, REV_SITE) {
  const int lane = rev::emulator::own_lane() - static_cast<int>(delta);
  return rev::emulator::shuffle(mask, value, lane, lane >= rev::emulator::first_lane(width), site);
}

template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, REV_SITE) {
  const int lane = rev::emulator::own_lane() + static_cast<int>(delta);
  return rev::emulator::shuffle(mask, value, lane, lane <= rev::emulator::last_lane(width), site);
}

template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, REV_SITE) {
  const int lane = rev::emulator::own_lane() ^ bits;
  return rev::emulator::shuffle(mask, value, lane, lane <= rev::emulator::last_lane(width), site);
}

// ---- reductions and votes ----

#define REV_REDUCE(name, T, operation)                                     \
  inline T name(unsigned mask, T value, REV_SITE) {                        \
    using namespace rev::emulator;                                         \
    return warp_reduce<T, rev::emulator::operation<T>>(mask, value, site); \
  }
REV_REDUCE(__reduce_add_sync, int, add)
REV_REDUCE(__reduce_add_sync, unsigned, add)
REV_REDUCE(__reduce_min_sync, int, least)
REV_REDUCE(__reduce_min_sync, unsigned, least)
REV_REDUCE(__reduce_max_sync, int, greatest)
REV_REDUCE(__reduce_max_sync, unsigned, greatest)
REV_REDUCE(__reduce_and_sync, unsigned, bits_and)
REV_REDUCE(__reduce_or_sync, unsigned, bits_or)
REV_REDUCE(__reduce_xor_sync, unsigned, bits_xor)
#undef REV_REDUCE

inline unsigned __ballot_sync(unsigned mask, int predicate, REV_SITE) {
  const unsigned bit = predicate != 0 ? 1u : 0u;
  return __reduce_or_sync(mask, bit << rev::emulator::here.thread->lane(), site);
}
inline int __any_sync(unsigned mask, int predicate, REV_SITE) {
  return __ballot_sync(mask, predicate, site) != 0 ? 1 : 0;
}
inline int __all_sync(unsigned mask, int predicate, REV_SITE) {
  return __ballot_sync(mask, predicate, site) == mask ? 1 : 0;
}

/// Which lanes happen to run together differs from GPU to GPU and says nothing about which will.
[[gnu::error("not in the emulator: pass the mask along instead")]] unsigned __activemask();
