// exp and log in float32, of fused multiply-adds, + - * /, and whole-number operations on bits, in
// the order written: the same bits on the CPU, at every vector width, and on the GPU, where expf
// and its like differ. Without branches, so that compilers make vectors of loops over them (GCC
// needs -fno-trapping-math). Denormals are arguments and results like others.
//
// An ulp of a result y in [2^e, 2^(e+1)) is 2^(e-23), of one below 2^-126 it is 2^-149. Bounds are
// what trying every one of the 2^32 arguments gave; beside them stands what they are made of, in
// u = 2^-24, an ulp of results in [0.5, 1).
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "cuda/host_device.h"

namespace rev::cuda {

REV_HOST_DEVICE uint32_t bits_of(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}

REV_HOST_DEVICE float float_of(uint32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

/// ln 2 in two parts: the first has 16 bits, so that its product with a whole number below 2^8 is
/// exact; with the second it is off by 2^-46.
constexpr float kLn2High = 0x1.62e4p-1f;
constexpr float kLn2Low = 0x1.7f7d1cp-20f;

/// x = n ln 2 + r with n whole and |r| <= 0.3470, for |x| <= 104.
struct Exponent {
  int32_t n;
  float r;
};

REV_HOST_DEVICE Exponent split_exponent(float x) {
  constexpr float kShift = 0x1.8p23f;  // floats from there on are whole: n is in the lowest bits
  const float shifted = fmaf(x, 0x1.715476p0f, kShift);
  const float n = shifted - kShift;
  return {static_cast<int32_t>(bits_of(shifted) - bits_of(kShift)),
          fmaf(n, -kLn2Low, fmaf(n, -kLn2High, x))};
}

/// e^r for |r| <= 0.3470: 1 + r + r^2 p(r) with p a minimax polynomial, by which it is off by less
/// than 2^-28.1 of itself.
REV_HOST_DEVICE float exp_near_zero(float r) {
  float p = 0x1.6ad156p-10f;
  p = fmaf(p, r, 0x1.123f3p-7f);
  p = fmaf(p, r, 0x1.55584ep-5f);
  p = fmaf(p, r, 0x1.55548ap-3f);
  p = fmaf(p, r, 0x1.fffffcp-2f);
  return fmaf(fmaf(p, r, 1.0f), r, 1.0f);
}

/// 2^n for n from -126 to 127; 0 for -127.
REV_HOST_DEVICE float power_of_two(int32_t n) {
  return float_of((static_cast<uint32_t>(n) + 127u) << 23);
}

/// e^x; exp(-inf) = 0, exp(inf) = inf, exp(NaN) is NaN. Off by less than 0.90 ulp.
///
/// For r < 0, where an ulp is u: r rounds by u/4; the factor of r in the last step, in [0.84, 1),
/// by u/2, and by 0.09 u in the step before it, both times |r| < 0.3470; the polynomial is off by
/// 0.06 u and the last step rounds by u/2: 1.01 ulp if all met at their largest. For r > 0 an ulp
/// is 2 u and the sum 0.91 ulp. A denormal result rounds once more, where an ulp of the above is at
/// most half of its own: 0.95 ulp.
REV_HOST_DEVICE float exp(float x) {
  float inside = x > 89.0f ? 89.0f : x;
  inside = inside < -104.0f ? -104.0f : inside;  // e^-104 rounds to 0
  const Exponent e = split_exponent(inside);
  const int32_t half = e.n >> 1;  // 2^n itself need not be a float
  const float rest = power_of_two(e.n - half);
  // Zero by a product that underflows would be slow on the CPU, and masked scores are all -inf.
  return exp_near_zero(e.r) * power_of_two(half) * (x < -104.0f ? 0.0f : rest);
}

/// e^x for x <= 88, as `exp` but 0 where it is below 2^-126 (x < -87.3365): half the work, for sums
/// in which such a term is lost, softmax's. NaN of NaN.
REV_HOST_DEVICE float exp_or_zero(float x) {
  const Exponent e = split_exponent(x);
  const float power = exp_near_zero(e.r) * power_of_two(e.n);
  return x < -0x1.5d589ep6f ? 0.0f : power;
}

/// The natural logarithm; log(0) = -inf, log(inf) = inf, NaN of NaN and below 0. Off by less than
/// 0.89 ulp.
///
/// x = 2^k (1 + f) with f in [-1/3, 1/3], and log(1 + f) = f + f^2 p(f) with p a minimax
/// polynomial, by which it is off by 2^-27.6 of itself. k ln 2 + f is kept as a sum of two floats
/// (its error is exact, as |k ln 2| > |f| where k is not 0), so that only f^2 p(f), less than a
/// fifth of the result, brings more than half an ulp.
REV_HOST_DEVICE float log(float x) {
  const bool tiny = x < 0x1p-126f;
  constexpr uint32_t kLeast = 0x3f2aaaabu;  // of 2/3
  const uint32_t shifted = bits_of(tiny ? x * 0x1p23f : x) - kLeast;
  const int32_t exponent = static_cast<int32_t>(shifted) >> 23;
  const float k = static_cast<float>(tiny ? exponent - 23 : exponent);
  const float f = float_of((shifted & 0x7fffffu) + kLeast) - 1.0f;
  float p = -0x1.0922dap-3f;
  p = fmaf(p, f, 0x1.1e90fp-3f);
  p = fmaf(p, f, -0x1.f29b34p-4f);
  p = fmaf(p, f, 0x1.1ecfa4p-3f);
  p = fmaf(p, f, -0x1.55a19p-3f);
  p = fmaf(p, f, 0x1.99d088p-3f);
  p = fmaf(p, f, -0x1.fffedep-3f);
  p = fmaf(p, f, 0x1.555506p-2f);
  p = fmaf(p, f, -0.5f);
  const float rest = fmaf(p, f * f, k * kLn2Low);
  const float high = k * kLn2High;
  const float sum = high + f;
  float y = sum + ((f - (sum - high)) + rest);
  y = x < INFINITY ? y : x;
  y = x > 0.0f ? y : -INFINITY;
  return x >= 0.0f ? y : NAN;
}

}  // namespace rev::cuda
