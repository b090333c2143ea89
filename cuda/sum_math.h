// Sums of floats in one order for the CPU path and the kernels, so that both give the same bits.
//
// A sum over n elements that W lanes share (W a power of two) has P = 8 W running sums, all 0 at
// first: sum k adds elements k, k + P, k + 2 P, ... in that order. Then halves are added,
// sum[k] += sum[k + P/2] for k < P/2, and so on until one is left.
//
// On the device lane i holds sums 8 i to 8 i + 7, whose elements are one 128-bit access of bfloat16
// or two of float32; halving is a shuffle down by half the lanes while there are several, and then
// eight sums are four, two, one. On the CPU P floats are whole vectors.
#pragma once

#include <cstdint>

#include "cuda/host_device.h"

namespace rev::cuda {

constexpr int kLaneSums = 8;  // running sums of a lane

/// The last three halvings: of one lane's sums.
REV_HOST_DEVICE float sum_of_lane(const float (&sum)[kLaneSums]) {
  return ((sum[0] + sum[4]) + (sum[2] + sum[6])) + ((sum[1] + sum[5]) + (sum[3] + sum[7]));
}

/// Sum of term(j) for j from 0 to n - 1, as W lanes take it; on the CPU.
template <int W, class Term>
inline float ordered_sum(int64_t n, const Term& term) {
  constexpr int64_t P = int64_t{kLaneSums} * W;
  float sum[P] = {};
  int64_t j = 0;
  for (; j + P <= n; j += P) {
    for (int64_t k = 0; k < P; ++k) sum[k] += term(j + k);
  }
  for (int64_t k = 0; j + k < n; ++k) sum[k] += term(j + k);
  for (int64_t half = P / 2; half > 0; half /= 2) {
    for (int64_t k = 0; k < half; ++k) sum[k] += sum[k + half];
  }
  return sum[0];
}

}  // namespace rev::cuda
