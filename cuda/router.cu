// A warp takes a token: lane i has the scores of experts i, i + 32, ... in registers. The choice is
// k rounds, in each of which the warp finds the greatest score that is left.
#include <cmath>

#include "cuda/launch.h"
#include "cuda/router.h"
#include "cuda/router_math.h"
#include "cuda/warp.h"

namespace rev::cuda {
namespace {

constexpr int kBlocks = 4;  // of a multiprocessor at least: half of its threads

// The scores of a token that one lane has; V is enough for all experts.
template <int V, class F>
__device__ __forceinline__ void load_scores(const F* row, int lane, int experts,
                                            float (&scores)[V]) {
#pragma unroll
  for (int v = 0; v < V; ++v) {
    const int expert = lane + kWarp * v;
    scores[v] = expert < experts ? widen(row[expert]) : 0.0f;
  }
}

// The greatest score of a token and the sum of its powers, in every lane.
template <int V>
__device__ __forceinline__ void softmax(const float (&scores)[V], int lane, int experts,
                                        float& greatest, float& sum) {
  uint32_t key = 0;
#pragma unroll
  for (int v = 0; v < V; ++v) {
    if (lane + kWarp * v < experts) key = max(key, score_key(scores[v]));
  }
  greatest = key_score(__reduce_max_sync(kAll, key));
  sum = 0.0f;
#pragma unroll
  for (int v = 0; v < V; ++v) {
    sum += lane + kWarp * v < experts ? router_power(scores[v], greatest) : 0.0f;
  }
  // Lane i holds running sum i.
#pragma unroll
  for (int lanes = kWarp / 2; lanes > 0; lanes /= 2) sum += __shfl_down_sync(kAll, sum, lanes);
  sum = __shfl_sync(kAll, sum, 0);
}

// The token's experts, in lane j its j-th.
template <int V>
__device__ __forceinline__ int choose(const float (&scores)[V], int lane, const Router& router) {
  uint32_t keys[V];
#pragma unroll
  for (int v = 0; v < V; ++v) {
    keys[v] = lane + kWarp * v < router.experts ? score_key(scores[v]) : 0;
  }
  int expert = 0;
  for (int j = 0; j < router.chosen; ++j) {
    uint32_t best = 0;
    int place = 0;
#pragma unroll
    for (int v = 0; v < V; ++v) {
      if (keys[v] > best) {  // the lower of two that are equal comes first
        best = keys[v];
        place = v;
      }
    }
    const uint32_t greatest = __reduce_max_sync(kAll, best);
    const unsigned candidate = best == greatest ? unsigned(lane + kWarp * place) : kMostExperts;
    const int found = static_cast<int>(__reduce_min_sync(kAll, candidate));
    if (lane == j) expert = found;
#pragma unroll
    for (int v = 0; v < V; ++v) {
      if (lane + kWarp * v == found) keys[v] = 0;
    }
  }
  return expert;
}

// Experts are chosen and written, or read.
template <class F, int V, bool kChoose>
__global__ void __launch_bounds__(kBlock, kBlocks)
    route_kernel(int32_t* experts, float* weights, const F* scores, Router router) {
  const int lane = threadIdx.x % kWarp;
  for (int64_t token = first_row(); token < router.tokens; token += rows_apart()) {
    const F* row = scores + token * router.experts;
    float own[V];
    load_scores(row, lane, router.experts, own);
    const int64_t slot = token * router.chosen + lane;
    const bool takes = lane < router.chosen;
    int expert = 0;
    bool exists = true;
    if constexpr (kChoose) {
      expert = choose(own, lane, router);
      if (takes) experts[slot] = expert;
    } else {
      const int given = takes ? experts[slot] : 0;
      expert = nearest_expert(given, router.experts);
      exists = expert == given;
    }
    float greatest, sum;
    softmax(own, lane, router.experts, greatest, sum);
    float weight = takes ? router_share(router_power(widen(row[expert]), greatest), sum) : 0.0f;
    if (!exists) weight = with_one_nan(NAN);
    if (router.renormalise) {
      float total = 0.0f;
      for (int j = 0; j < router.chosen; ++j) total += __shfl_sync(kAll, weight, j);
      weight = router_share(weight, total);
    }
    if (takes) weights[slot] = weight;
  }
}

// Renormalised weights are the softmax of the chosen scores alone: the others have no gradient.
template <class F, int V>
__global__ void __launch_bounds__(kBlock, kBlocks)
    route_backward_kernel(F* dscores, const F* scores, const int32_t* experts, const float* weights,
                          const float* dweights, Router router) {
  const int lane = threadIdx.x % kWarp;
  for (int64_t token = first_row(); token < router.tokens; token += rows_apart()) {
    const int64_t slot = token * router.chosen + lane;
    const bool takes = lane < router.chosen;
    const float weight = takes ? weights[slot] : 0.0f;
    const float gradient = takes ? dweights[slot] : 0.0f;
    const float product = weight * gradient;
    float inner = 0.0f;
    for (int j = 0; j < router.chosen; ++j) inner += __shfl_sync(kAll, product, j);

    F* to = dscores + token * router.experts;
    float own[V] = {};
    float greatest = 0.0f, sum = 0.0f;
    if (!router.renormalise) {
      load_scores(scores + token * router.experts, lane, router.experts, own);
      softmax(own, lane, router.experts, greatest, sum);
    }
#pragma unroll
    for (int v = 0; v < V; ++v) {
      const int expert = lane + kWarp * v;
      float value = 0.0f;
      if (!router.renormalise) {
        value = router_gradient(router_share(router_power(own[v], greatest), sum), 0.0f, inner);
      }
      if (expert < router.experts) to[expert] = narrow<F>(value);
    }
    __syncwarp();  // the chosen ones' come after
    const int expert = takes ? experts[slot] : -1;
    if (expert >= 0 && expert < router.experts) {
      to[expert] = narrow<F>(router_gradient(weight, gradient, inner));
    }
  }
}

// Calls body(V) with enough scores a lane for the experts, as a type.
template <class Body>
void with_scores_of_lane(int experts, const Body& body) {
  if (experts <= 2 * kWarp) {
    body(std::integral_constant<int, 2>());
  } else if (experts <= 4 * kWarp) {
    body(std::integral_constant<int, 4>());
  } else if (experts <= 8 * kWarp) {
    body(std::integral_constant<int, 8>());
  } else {
    body(std::integral_constant<int, kMostExperts / kWarp>());
  }
}

template <bool kChoose, class F>
void launch_weights(int32_t* experts, float* weights, const F* scores, const Router& router,
                    Stream stream) {
  if (router.tokens == 0) return;
  with_scores_of_lane(router.experts, [&](auto v) {
    launch(route_kernel<F, decltype(v)::value, kChoose>, blocks_for(router.tokens, kWarpsOfBlock),
           stream, experts, weights, scores, router);
  });
}

}  // namespace

template <class F>
void launch_route(int32_t* experts, float* weights, const F* scores, const Router& router,
                  Stream stream) {
  launch_weights<true>(experts, weights, scores, router, stream);
}

template <class F>
void launch_route_weights(float* weights, const F* scores, const int32_t* experts,
                          const Router& router, Stream stream) {
  // They are read.
  launch_weights<false>(const_cast<int32_t*>(experts), weights, scores, router, stream);
}

template <class F>
void launch_route_backward(F* dscores, const F* scores, const int32_t* experts,
                           const float* weights, const float* dweights, const Router& router,
                           Stream stream) {
  if (router.tokens == 0) return;
  with_scores_of_lane(router.experts, [&](auto v) {
    launch(route_backward_kernel<F, decltype(v)::value>, blocks_for(router.tokens, kWarpsOfBlock),
           stream, dscores, scores, experts, weights, dweights, router);
  });
}

#define REV_SCORE_TYPE(F)                                                                       \
  template void launch_route(int32_t*, float*, const F*, const Router&, Stream);                \
  template void launch_route_weights(float*, const F*, const int32_t*, const Router&, Stream);  \
  template void launch_route_backward(F*, const F*, const int32_t*, const float*, const float*, \
                                      const Router&, Stream);
REV_SCORE_TYPE(float)
REV_SCORE_TYPE(BFloat16)

}  // namespace rev::cuda
