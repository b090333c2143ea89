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

/// Moves running sums s of a warp from one maximum to another; on the CPU.
inline void move_sums(float* sum, float& max, float to, float scale) {
  const float factor = exp_or_zero((max - to) * scale);
  for (int k = 0; k < kTile; ++k) sum[k] *= factor;
  max = to;
}

/// Takes the next kTile elements of a warp into its running sums; on the CPU.
template <class T>
inline void add_tile(const T* x, float* sum, float& max, float scale) {
  constexpr int kLanes = 32;  // as many maxima as vectors hold
  float largest[kLanes];
  for (int k = 0; k < kLanes; ++k) largest[k] = max;
  for (int begin = 0; begin < kTile; begin += kLanes) {
    for (int k = 0; k < kLanes; ++k) largest[k] = larger(widen(x[begin + k]), largest[k]);
  }
  for (int half = kLanes / 2; half > 0; half /= 2) {
    for (int k = 0; k < half; ++k) largest[k] = larger(largest[k + half], largest[k]);
  }
  if (largest[0] > max) move_sums(sum, max, largest[0], scale);
  for (int k = 0; k < kTile; ++k) sum[k] += exp_or_zero((widen(x[k]) - max) * scale);
}

/// Of a row of n elements, as W lanes take it; on the CPU. T: float or BFloat16.
template <int W, class T>
inline Softmax ordered_softmax(const T* row, int64_t n, float scale) {
  constexpr int kWarps = W / 32;
  float sum[kWarps * kTile] = {}, maxima[kWarps];
  for (float& m : maxima) m = kLowest;
  int warp = 0;
  int64_t begin = 0;
  for (; begin + kTile <= n; begin += kTile) {
    add_tile(row + begin, sum + warp * kTile, maxima[warp], scale);
    warp = (warp + 1) % kWarps;
  }
  if (begin < n) {
    T tail[kTile];
    for (int k = 0; k < kTile; ++k) {
      tail[k] = begin + k < n ? row[begin + k] : narrow<T>(-INFINITY);
    }
    add_tile(tail, sum + warp * kTile, maxima[warp], scale);
  }
  float max = kLowest;
  for (const float m : maxima) max = larger(m, max);
  for (int w = 0; w < kWarps; ++w) {
    // Where it is the maximum the factor is 1.
    if (maxima[w] != max) move_sums(sum + w * kTile, maxima[w], max, scale);
  }
  return {max, ordered_sum<W>(kWarps * kTile, [&](int64_t k) { return sum[k]; })};
}

}  // namespace rev::cuda
