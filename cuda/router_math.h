// The router of a mixture of experts, element by element: one source for the CPU path and the
// kernels, so that both give the same bits.
//
// A token's experts are those with the greatest scores. The softmax of the scores has the same
// order, so no exponential enters the choice.
#pragma once

#include <cstdint>

#include "cuda/exp_math.h"
#include "cuda/host_device.h"

namespace rev::cuda {

constexpr int kMostExperts = 512;
constexpr int kMostChosen = 16;  // of a token

/// Lanes that share a sum over a token's experts, in sum_math.h's order: their 32 running sums are
/// one for each lane of a warp.
constexpr int kRouterLanes = 4;

/// A whole number in the order of the scores: NaN above all, as it must not pass unseen, and the
/// two zeros equal. Above 0, the key of no score.
REV_HOST_DEVICE uint32_t score_key(float score) {
  const uint32_t bits = bits_of(score + 0.0f);  // -0 + 0 is 0
  const uint32_t key = (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
  return score == score ? key : 0xffffffffu;
}

/// The score of a key; NaN of its key.
REV_HOST_DEVICE float key_score(uint32_t key) {
  return float_of((key & 0x80000000u) != 0 ? key ^ 0x80000000u : ~key);
}

/// e^(score - greatest): the softmax before it is divided by its sum.
REV_HOST_DEVICE float router_power(float score, float greatest) { return exp(score - greatest); }

/// x, and of the NaN that the CPU and the GPU make, which differ, one.
REV_HOST_DEVICE float with_one_nan(float x) { return x == x ? x : float_of(0x7fc00000u); }

/// A share of a sum.
REV_HOST_DEVICE float router_share(float part, float sum) { return with_one_nan(part / sum); }

/// dscore of an expert with the share p and the gradient dp of it; `inner` is sum_j p_j dp_j.
REV_HOST_DEVICE float router_gradient(float p, float dp, float inner) {
  return with_one_nan(p * (dp - inner));
}

/// The expert that exists, of n, and is nearest to a given number: on a GPU nothing waits for those
/// that are given to be checked.
REV_HOST_DEVICE int32_t nearest_expert(int32_t given, int32_t n) {
  return given < 0 ? 0 : given < n ? given : n - 1;
}

}  // namespace rev::cuda
