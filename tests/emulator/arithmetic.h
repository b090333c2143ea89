// CUDA's arithmetic functions that give the same bits here as on a GPU: those of whole numbers, and
// those that round once, to the nearest, ties to even (or as their last letter says). Compile with
// -ffp-contract=off.
//
// Left out on purpose, as their last bits differ from GPU to CPU: __expf, __logf, __fdividef,
// rsqrtf and the like. (expf, logf and others of <cmath> exist, and may differ, too.)
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

namespace rev::emulator {

template <class To, class From>
To same_bits(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  memcpy(&to, &from, sizeof to);
  return to;
}

/// A whole number as a T: clamped to its range, and 0 for NaN, as GPUs convert to 32 bits.
template <class T>
T clamped(double whole) {
  using Limits = std::numeric_limits<T>;
  if (whole != whole) return 0;
  if (whole <= static_cast<double>(Limits::min())) return Limits::min();
  if (whole >= static_cast<double>(Limits::max())) return Limits::max();
  return static_cast<T>(whole);
}

}  // namespace rev::emulator

// ---- floating point ----

inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fmaf_rn(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
inline float __frcp_rn(float a) { return 1.0f / a; }
inline float __fsqrt_rn(float a) { return __builtin_sqrtf(a); }
/// Rounding twice gives what rounding once does, for every float (tried).
inline float __frsqrt_rn(float a) {
  return static_cast<float>(1.0 / __builtin_sqrt(static_cast<double>(a)));
}
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dsub_rn(double a, double b) { return a - b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __ddiv_rn(double a, double b) { return a / b; }
inline double __drcp_rn(double a) { return 1.0 / a; }
inline double __dsqrt_rn(double a) { return __builtin_sqrt(a); }
inline double __fma_rn(double a, double b, double c) { return __builtin_fma(a, b, c); }
inline float __saturatef(float a) { return a > 0.0f ? (a < 1.0f ? a : 1.0f) : 0.0f; }

// ---- conversions ----

inline int __float_as_int(float a) { return rev::emulator::same_bits<int>(a); }
inline unsigned __float_as_uint(float a) { return rev::emulator::same_bits<unsigned>(a); }
inline float __int_as_float(int a) { return rev::emulator::same_bits<float>(a); }
inline float __uint_as_float(unsigned a) { return rev::emulator::same_bits<float>(a); }
inline long long __double_as_longlong(double a) { return rev::emulator::same_bits<long long>(a); }
inline double __longlong_as_double(long long a) { return rev::emulator::same_bits<double>(a); }

inline int __float2int_rn(float a) { return rev::emulator::clamped<int>(__builtin_rint(a)); }
inline int __float2int_rz(float a) { return rev::emulator::clamped<int>(__builtin_trunc(a)); }
inline int __float2int_rd(float a) { return rev::emulator::clamped<int>(__builtin_floor(a)); }
inline int __float2int_ru(float a) { return rev::emulator::clamped<int>(__builtin_ceil(a)); }
inline unsigned __float2uint_rn(float a) {
  return rev::emulator::clamped<unsigned>(__builtin_rint(a));
}
inline unsigned __float2uint_rz(float a) {
  return rev::emulator::clamped<unsigned>(__builtin_trunc(a));
}
inline float __int2float_rn(int a) { return static_cast<float>(a); }
inline float __uint2float_rn(unsigned a) { return static_cast<float>(a); }
inline float __ll2float_rn(long long a) { return static_cast<float>(a); }
inline float __ull2float_rn(unsigned long long a) { return static_cast<float>(a); }
inline float __double2float_rn(double a) { return static_cast<float>(a); }
inline double __int2double_rn(int a) { return a; }

// ---- bits and whole numbers ----

inline int __popc(unsigned a) { return __builtin_popcount(a); }
inline int __popcll(unsigned long long a) { return __builtin_popcountll(a); }
inline int __clz(int a) { return a == 0 ? 32 : __builtin_clz(static_cast<unsigned>(a)); }
inline int __clzll(long long a) {
  return a == 0 ? 64 : __builtin_clzll(static_cast<unsigned long long>(a));
}
inline int __ffs(int a) { return __builtin_ffs(a); }
inline int __ffsll(long long a) { return __builtin_ffsll(a); }

inline unsigned __brev(unsigned a) {
  unsigned reversed = 0;
  for (int i = 0; i < 32; ++i) reversed |= (a >> i & 1u) << (31 - i);
  return reversed;
}

inline unsigned __umulhi(unsigned a, unsigned b) {
  return static_cast<unsigned>(uint64_t{a} * b >> 32);
}
inline int __mulhi(int a, int b) { return static_cast<int>(int64_t{a} * b >> 32); }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
  return static_cast<unsigned long long>(static_cast<unsigned __int128>(a) * b >> 64);
}
inline long long __mul64hi(long long a, long long b) {
  return static_cast<long long>(static_cast<__int128>(a) * b >> 64);
}

/// Four of the eight bytes of (high, low), chosen by the low four nibbles of `chosen`; a nibble's
/// top bit asks for the byte's sign in all bits.
inline unsigned __byte_perm(unsigned low, unsigned high, unsigned chosen) {
  const uint64_t bytes = uint64_t{high} << 32 | low;
  unsigned result = 0;
  for (int i = 0; i < 4; ++i) {
    const unsigned nibble = chosen >> (4 * i) & 0xfu;
    unsigned byte = static_cast<unsigned>(bytes >> (8 * (nibble & 7u))) & 0xffu;
    if ((nibble & 8u) != 0) byte = (byte & 0x80u) != 0 ? 0xffu : 0u;
    result |= byte << (8 * i);
  }
  return result;
}

/// The upper 32 bits of (high, low) shifted left by shift % 32; the lower ones shifted right.
inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned shift) {
  return static_cast<unsigned>((uint64_t{high} << 32 | low) << (shift & 31u) >> 32);
}
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) {
  return static_cast<unsigned>((uint64_t{high} << 32 | low) >> (shift & 31u));
}

template <class A, class B>
constexpr std::common_type_t<A, B> min(A a, B b) {
  return b < a ? b : a;
}
template <class A, class B>
constexpr std::common_type_t<A, B> max(A a, B b) {
  return a < b ? b : a;
}
