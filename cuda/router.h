// Launchers of the router's kernels (router.cu): which experts a token goes to, and how much each
// of them counts. The arithmetic is router_math.h's, so the bits are those of the CPU path.
//
// All pointers are device pointers to contiguous memory, all work is queued on `stream`. Nothing is
// checked here: the callers in src/kernels did. Throws std::runtime_error where a launch fails.
// F: float or BFloat16.
#pragma once

#include <cstdint>

#include "cuda/bfloat16.h"
#include "cuda/stream.h"

namespace rev::cuda {

/// Sizes and form of a router.
struct Router {
  int64_t tokens;    ///< N
  int experts;       ///< E, 1 to 512
  int chosen;        ///< k, 1 to 16 and at most E
  bool renormalise;  ///< whether a token's weights are divided by their sum
};

/// experts [N,k]: those of the k greatest of scores [N,E], greatest first, the lower of two that
/// are equal; weights [N,k]: their softmax over all E, over the sum of the k if renormalised.
template <class F>
void launch_route(int32_t* experts, float* weights, const F* scores, const Router& router,
                  Stream stream);

/// The weights alone, for experts that were chosen before; NaN for one that does not exist.
template <class F>
void launch_route_weights(float* weights, const F* scores, const int32_t* experts,
                          const Router& router, Stream stream);

/// dscores [N,E] of dweights [N,k], given what `launch_route` read and wrote. The experts of a
/// token must differ; one that does not exist has no score.
template <class F>
void launch_route_backward(F* dscores, const F* scores, const int32_t* experts,
                           const float* weights, const float* dweights, const Router& router,
                           Stream stream);

}  // namespace rev::cuda
