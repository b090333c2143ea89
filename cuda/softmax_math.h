// The maximum m of a row and sum_j e^((x_j - m) scale), in one pass and one order for the CPU path
// and the kernels.
//
// W lanes share a row; 32 of them, a warp, hold 256 of the 8 W running sums of sum_math.h (element
// j goes to running sum j mod 8 W) and the largest of the elements that went to these, m_w, which
// starts at the lowest finite float. 256 elements come in at a time: where one of them is above
// m_w, the warp's running sums s become s e^((m_w - m') scale) with m' the new maximum; then each
// element adds e^((x - m_w) scale). Elements past the row's end are -inf, and add nothing. In the
// end m is the largest m_w, s becomes s e^((m_w - m) scale), and halves are added as in sum_math.h.
// A maximum is exact in any order, so that this order of sums is all there is to keep.
//
// A NaN or an inf makes the sum NaN; a row of -inf alone has a sum of 0.
#pragma once

#include <cmath>
#include <cstdint>

#include "cuda/bfloat16.h"
#include "cuda/exp_math.h"
#include "cuda/host_device.h"
#include "cuda/sum_math.h"

namespace rev::cuda {

/// The target of rows of logits that take no part.
constexpr int64_t kIgnoredTarget = -100;

constexpr float kLowest = -0x1.fffffep127f;
constexpr int kTile = 8 * 32;  // elements that a warp takes at a time

/// Whether a warp takes a row of this width, W = 32; a block takes wider ones, W = 256.
REV_HOST_DEVICE bool is_narrow(int64_t width) { return width <= 4 * kTile; }

struct Softmax {
  float max;
  float sum;  ///< of e^((x_j - max) scale)
};

/// log sum_j e^(x_j scale), and how far it is above max scale.
struct LogSum {
  float whole;
  float above;
};

REV_HOST_DEVICE LogSum log_sum(const Softmax& softmax, float scale) {
  const float above = log(softmax.sum);
  return {fmaf(softmax.max, scale, above), above};
}

REV_HOST_DEVICE float larger(float a, float b) { return a > b ? a : b; }  // b where a is NaN

/// A warp's running sums and their maximum; on the CPU.
struct WarpSums {
  float max = kLowest;
  float sum[kTile] = {};

  template <class T>
  [[gnu::always_inline]] inline void add(const T* x, float scale) {
    constexpr int kLanes = 32;  // as many maxima as vectors hold
    float largest[kLanes];
    for (int k = 0; k < kLanes; ++k) largest[k] = max;
    for (int begin = 0; begin < kTile; begin += kLanes) {
      for (int k = 0; k < kLanes; ++k) largest[k] = larger(widen(x[begin + k]), largest[k]);
    }
    for (int half = kLanes / 2; half > 0; half /= 2) {
      for (int k = 0; k < half; ++k) largest[k] = larger(largest[k + half], largest[k]);
    }
    if (largest[0] > max) move_to(largest[0], scale);
    for (int k = 0; k < kTile; ++k) sum[k] += exp_or_zero((widen(x[k]) - max) * scale);
  }

  [[gnu::always_inline]] inline void move_to(float to, float scale) {
    const float factor = exp_or_zero((max - to) * scale);
    for (int k = 0; k < kTile; ++k) sum[k] *= factor;
    max = to;
  }
};

/// Of a row of n elements, as W lanes take it; on the CPU. T: float or BFloat16.
template <int W, class T>
[[gnu::always_inline]] inline Softmax ordered_softmax(const T* row, int64_t n, float scale) {
  constexpr int kWarps = W / 32;
  WarpSums warps[kWarps];
  int warp = 0;
  int64_t begin = 0;
  for (; begin + kTile <= n; begin += kTile) {
    warps[warp].add(row + begin, scale);
    warp = (warp + 1) % kWarps;
  }
  if (begin < n) {
    T tail[kTile];
    for (int k = 0; k < kTile; ++k) {
      tail[k] = begin + k < n ? row[begin + k] : narrow<T>(-INFINITY);
    }
    warps[warp].add(tail, scale);
  }
  float max = kLowest;
  for (const WarpSums& w : warps) max = larger(w.max, max);
  for (WarpSums& w : warps) {
    if (w.max != max) w.move_to(max, scale);  // else the factor is 1
  }
  for (int half = kWarps / 2; half > 0; half /= 2) {
    for (int w = 0; w < half; ++w) {
      for (int k = 0; k < kTile; ++k) warps[w].sum[k] += warps[w + half].sum[k];
    }
  }
  float(&sum)[kTile] = warps[0].sum;
  for (int half = kTile / 2; half > 0; half /= 2) {
    for (int k = 0; k < half; ++k) sum[k] += sum[k + half];
  }
  return {max, sum[0]};
}

}  // namespace rev::cuda
