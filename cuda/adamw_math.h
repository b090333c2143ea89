// AdamW's arithmetic (arXiv 1711.05101), element by element: one source for the CPU path and the
// kernels, so that both give the same bits. Only IEEE operations in the order written: compile with
// contraction of a * b + c off.
//
// Moments of eight bits (arXiv 2110.02861) hold, for each block of 256 values, the largest
// magnitude as a float and for each value a code, its share of that. The map from codes to shares
// is dynamic: shares of [1/8, 1] get half of the codes, evenly spaced, those of [1/64, 1/8] half of
// the rest, and so on. It is the paper's dynamic map with powers of 8 in place of 10: codes are
// then made and read by exact products and one rounding, without a table that two sides would have
// to share. A linear map would send all but the largest values to nothing: a block's magnitudes
// differ by orders.
#pragma once

#include <cmath>
#include <cstdint>

#include "cuda/bfloat16.h"
#include "cuda/exp_math.h"
#include "cuda/host_device.h"

namespace rev::cuda {

/// The settings of a step; `rest1` and `rest2` are 1 - beta1 and 1 - beta2.
struct AdamWSettings {
  float beta1, rest1;
  float beta2, rest2;
  float eps;
};

/// 1 - beta^t for a whole t from 0 to 2^24, with rest = 1 - beta: by doubling and adding one,
///   c(2 t) = c(t) (2 - c(t)),  c(t + 1) = beta c(t) + rest,
/// whose terms are all positive, so that nothing cancels: each of 25 rounds adds at most six
/// roundings of 2^-24 to the relative error.
REV_HOST_DEVICE float bias_correction(float beta, float rest, float t) {
  const auto count = static_cast<uint32_t>(t);
  float c = 0;
  for (int bit = 24; bit >= 0; --bit) {
    c = c * (2.0f - c);
    const float next = beta * c + rest;
    c = (count >> bit & 1u) != 0 ? next : c;
  }
  return c;
}

/// What the elements of a tensor share in a step.
struct AdamWFactors {
  AdamWSettings settings;
  float clip;   ///< of the gradient
  float decay;  ///< lr decay
  float size;   ///< lr / (1 - beta1^t)
  float root;   ///< 1 / sqrt(1 - beta2^t)
};

REV_HOST_DEVICE AdamWFactors adamw_factors(const AdamWSettings& s, float lr, float clip,
                                           float weight_decay, float t) {
  return {s, clip, lr * weight_decay, lr / bias_correction(s.beta1, s.rest1, t),
          1.0f / sqrtf(bias_correction(s.beta2, s.rest2, t))};
}

/// One element's step. The decay and the move are added before w is rounded: it is rounded once.
REV_HOST_DEVICE void adamw_update(float& w, float g, float& m, float& v, const AdamWFactors& f) {
  const float gradient = g * f.clip;
  m = f.settings.beta1 * m + f.settings.rest1 * gradient;
  v = f.settings.beta2 * v + f.settings.rest2 * (gradient * gradient);
  const float move = f.size * m / (sqrtf(v) * f.root + f.settings.eps);
  w = w - (f.decay * w + move);
}

/// A bfloat16 weight in float32: its master copy while that rounds to the weight. Where it does
/// not, the weight was set by someone else, and the copy is out of date.
REV_HOST_DEVICE float master_of(float master, float weight) {
  return widen(narrow<BFloat16>(master)) == weight ? master : weight;
}

// ---- moments of eight bits ----

constexpr int kCodeBlock = 256;  // values that share a scale

/// The share that a code of N bits stands for: with f = floor(log2 code) and k = code + 1 - 2^f,
///   8^(f + 1 - N) (1/8 + 7/8 k / 2^f), and 0 for 0; exact. The largest code is 1.
template <int N>
REV_HOST_DEVICE float share_of_code(uint32_t code) {
  const auto number = static_cast<float>(code);
  const uint32_t power = bits_of(number) & 0x7f800000u;  // 2^f
  const float k = number + 1.0f - float_of(power);
  const float part = k * float_of((254u << 23) - power);  // k / 2^f
  // The exponent field of 8^(f + 1 - N), from that of 2^f, 127 + f.
  const float unit = float_of(3u * power - ((251u + 3u * N) << 23));
  return code != 0 ? unit * (0.125f + 0.875f * part) : 0.0f;
}

/// The code of N bits whose share is nearest to x, 0 <= x <= 1 (or a rounding above); below the
/// smallest share, that one from 9/16 of it on.
template <int N>
REV_HOST_DEVICE uint32_t code_of_share(float x) {
  const uint32_t exponent = bits_of(x) >> 23;
  const uint32_t below = exponent < 126u ? 126u - exponent : 0u;  // halvings from 1
  const uint32_t third = below * 171u >> 9;                       // below / 3
  const uint32_t eighths = third < N - 1 ? third : N - 1;
  const float lifted = x * float_of((127u + 3u * eighths) << 23);  // in [1/8, 1], but for the last
  const float places = float_of((126u + N - eighths) << 23);       // codes between those
  float k = rintf((lifted - 0.125f) * (8.0f / 7.0f) * places);
  k = k > 0.0f ? k : 0.0f;  // also for NaN
  k = k < places ? k : places;
  return static_cast<uint32_t>(static_cast<int32_t>(places - 1.0f + k));
}

/// What shares are taken with; 0 where a scale is too small to have an inverse.
REV_HOST_DEVICE float inverse_scale(float scale) {
  return scale >= 1.17549435e-38f ? 1.0f / scale : 0.0f;
}

/// m: its sign and a code of seven bits. Of a NaN's sign, which devices differ in, nothing is kept.
REV_HOST_DEVICE float decode_mean(uint8_t code, float scale) {
  const float magnitude = share_of_code<7>(code & 0x7fu) * scale;
  return (code & 0x80u) != 0 ? -magnitude : magnitude;
}
REV_HOST_DEVICE uint8_t encode_mean(float m, float inverse) {
  const uint32_t bits = bits_of(m);
  const uint32_t code = code_of_share<7>(float_of(bits & 0x7fffffffu) * inverse);
  const uint32_t sign = m == m ? bits >> 31 << 7 : 0u;
  return static_cast<uint8_t>(sign | code);
}

/// v: a code of eight bits for its root, which is what a step divides by. It does not become 0
/// unless v is: a step divided by eps alone would be a leap.
REV_HOST_DEVICE float decode_square(uint8_t code, float scale) {
  const float root = share_of_code<8>(code) * scale;
  return root * root;
}
REV_HOST_DEVICE uint8_t encode_square(float v, float inverse) {
  const uint32_t code = code_of_share<8>(sqrtf(v) * inverse);
  return static_cast<uint8_t>(code == 0u && v > 0.0f ? 1u : code);
}

}  // namespace rev::cuda
