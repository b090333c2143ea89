// The grid's arithmetic, element by element: one source for the CPU path and the CUDA kernels, so
// that both give the same bits. Only IEEE operations in the order written: compile with contraction
// of a * b + c off (-ffp-contract=off, -fmad=false). (Of `rescale` the CPU has a second form, with
// vectors, that a test holds to this one.)
#pragma once

#include <cmath>
#include <cstdint>

#include "cuda/host_device.h"

namespace rev::grid {

/// Largest float below 2^31: increments are clamped to it, the same on both sides of zero, so that
/// the increment of -c is minus that of c.
constexpr float kLargest = 2147483520.0f;

/// rint(v), ties to even, clamped; 0 for NaN. `out` gathers a 1 where v is out of range or NaN.
REV_HOST_DEVICE int32_t to_cell(float v, uint32_t& out) {
  float r = rintf(v);
  const bool inside = r <= kLargest && r >= -kLargest;  // false for NaN
  out |= inside ? 0u : 1u;
  r = r > kLargest ? kLargest : r;
  r = r < -kLargest ? -kLargest : r;
  r = r == r ? r : 0.0f;
  return static_cast<int32_t>(r);
}

/// i + r modulo 2^32; `out` gathers a 1 where the sum leaves the range.
REV_HOST_DEVICE int32_t add(int32_t i, int32_t r, uint32_t& out) {
  const auto a = static_cast<uint32_t>(i), b = static_cast<uint32_t>(r), s = a + b;
  out |= ((a ^ s) & (b ^ s)) >> 31;
  return static_cast<int32_t>(s);
}

/// i + rint(c f 2^k), with scale = c 2^k.
REV_HOST_DEVICE int32_t update(int32_t i, float f, float scale, uint32_t& out) {
  return add(i, to_cell(f * scale, out), out);
}

/// 2 x - i + rint(c f 2^k) modulo 2^32: its own inverse in i.
REV_HOST_DEVICE int32_t reflect(int32_t i, int32_t x, float f, float scale, uint32_t& out) {
  const int32_t r = to_cell(f * scale, out);
  const int64_t wide = 2 * static_cast<int64_t>(x) - i + r;
  const auto cell = static_cast<int32_t>(static_cast<uint32_t>(static_cast<uint64_t>(wide)));
  out |= cell == wide ? 0u : 1u;
  return cell;
}

/// i + rint(b x + c f 2^k), for midpoint(a).
REV_HOST_DEVICE int32_t blend(int32_t i, int32_t x, float b, float f, float scale, uint32_t& out) {
  const float linear = b * static_cast<float>(x);
  const float increment = f * scale;
  return add(i, to_cell(linear + increment, out), out);
}

/// floor(x n / m) for whole n, m > 0, to within the digit that comes in; undone by swapping n and
/// m. The digits that a division takes and a product needs go to and come from d, last in first
/// out:
///   z = x n + (d mod n);  d = d div n;  x = floor(z / m);  d = d m + (z mod m)
/// d must stay below 2^64, and z below 2^63.
REV_HOST_DEVICE int32_t rescale(int32_t x, uint64_t& d, uint32_t n, uint32_t m, uint32_t& out) {
  const uint64_t above = d / n;
  const int64_t z = static_cast<int64_t>(x) * n + static_cast<int64_t>(d - above * n);
  int64_t quotient = z / m;
  int64_t remainder = z - quotient * m;
  if (remainder < 0) {
    remainder += m;
    quotient -= 1;
  }
  d = above * m + static_cast<uint64_t>(remainder);
  const auto cell = static_cast<int32_t>(quotient);
  out |= cell == quotient ? 0u : 1u;
  return cell;
}

/// -x modulo 2^32; `out` gathers a 1 for the one cell that has no negative.
REV_HOST_DEVICE int32_t negate(int32_t x, uint32_t& out) {
  const uint32_t n = 0u - static_cast<uint32_t>(x);
  out |= n == 0x80000000u ? 1u : 0u;
  return static_cast<int32_t>(n);
}

/// Weight of word j in a row sum: odd, from two rounds of a 32-bit mix. The row sum is
/// sum_j weight(j) * word_j modulo 2^64 over the words as unsigned numbers: one changed word always
/// changes it (the product is below 2^64 and not zero), several do but for a chance of about 2^-31.
REV_HOST_DEVICE uint32_t weight(uint32_t j) {
  uint32_t w = j * 0x9e3779b1u + 0x7f4a7c15u;
  w = (w ^ (w >> 16)) * 0x85ebca6bu;
  w = (w ^ (w >> 13)) * 0xc2b2ae35u;
  return (w ^ (w >> 16)) | 1u;
}

}  // namespace rev::grid
