// Launchers of the kernels between a router and its experts (dispatch.cu): rows of tokens are
// brought into the order of the experts, so that each expert's lie together, and back.
//
// A token has k slots, one for each of its experts; slot s is token s / k's. Its row lies where a
// stable sort by expert puts it. Every sum over rows is taken in the order of the slots, so that no
// result depends on the order in which threads run.
//
// All pointers are device pointers to contiguous memory, all work is queued on `stream`. Nothing is
// checked here: the callers in src/kernels did. Throws std::runtime_error where CUDA refuses.
// F: float or BFloat16.
#pragma once

#include <cstdint>

#include "cuda/bfloat16.h"
#include "cuda/stream.h"

namespace rev::cuda {

/// How many int32 `launch_sort_by_expert` works with.
int64_t sort_scratch(int64_t slots, int experts);

/// offsets [E+1]: expert e has rows offsets[e] to offsets[e+1] - 1; order [N k]: the slot of each
/// row; rows [N k]: the row of each slot; of experts [N k], E at most 512; one that is none of 0 to
/// E - 1 counts as the nearest. scratch: `sort_scratch` int32, written.
void launch_sort_by_expert(int32_t* offsets, int32_t* order, int32_t* rows, int32_t* scratch,
                           const int32_t* experts, int64_t slots, int n_experts, Stream stream);

/// Sizes of what is dispatched.
struct Dispatch {
  int64_t tokens;  ///< N
  int chosen;      ///< k, at most 16
  int64_t width;   ///< C
};

/// y [N k,C], y[row] = x[order[row] / k]; of x [N,C].
template <class F>
void launch_dispatch(F* y, const F* x, const int32_t* order, const Dispatch& size, Stream stream);

/// y [N,C], y[token] = sum over its slots of weights[slot] x[rows[slot]], in float32; of x [N k,C].
/// weights: null for ones, with which it is the backward of `launch_dispatch`.
template <class F>
void launch_combine(F* y, const F* x, const float* weights, const int32_t* rows,
                    const Dispatch& size, Stream stream);

/// Given dy [N,C], with token = slot / k: dx [N k,C], dx[rows[slot]] = weights[slot] dy[token]; and
/// dweights [N k], dweights[slot] = sum_c dy[token,c] x[rows[slot],c].
template <class F>
void launch_combine_backward(F* dx, float* dweights, const F* dy, const F* x, const float* weights,
                             const int32_t* order, const Dispatch& size, Stream stream);

}  // namespace rev::cuda
