// A mixture of experts around its experts: which of them a token goes to, and its row there and
// back.
//
//   route:     p = softmax(scores); the k greatest p and their experts, as in Qwen's sparse layers
//   dispatch:  rows of tokens in the order of the experts, so that each expert's lie together
//   combine:   y[token] = sum over its experts of weight * expert's row
//
// A routing is a value: a layer that is evaluated again may be given the one of its first
// evaluation. Nothing here has a graph; backwards are functions of their own. The CPU and CUDA give
// the same bits, but for NaN in rows (Note [Same bits], dtype.h; of weights' and scores' there is
// one), whatever the number of threads.
#pragma once

#include <ATen/core/Tensor.h>
#include <cstdint>
#include <utility>

namespace rev::kernels {

/// Where N tokens with k experts each are sent, of E. Token n has the slots n k to n k + k - 1, one
/// for each of its experts; in the order of the experts, slots of one expert in their own, every
/// slot has a row.
struct Routing {
  at::Tensor experts;  ///< [N,k] int32, a token's experts, the one of the greatest score first
  at::Tensor weights;  ///< [N,k] float32, how much each counts
  at::Tensor offsets;  ///< [E+1] int32, expert e has rows offsets[e] to offsets[e+1] - 1
  at::Tensor order;    ///< [N k] int32, the slot of each row
  at::Tensor rows;     ///< [N k] int32, the row of each slot
};

/// The routing to the k experts of the greatest scores.
///
/// scores: [N,E] float32 or bfloat16, E up to 512; k: 1 to 16, at most E. Weights are the softmax
/// over all E, in float32, and with `renormalise` (Qwen's norm_topk_prob) each token's are divided
/// by their sum. Of equal scores the lower expert comes first; NaN counts as the greatest, and
/// makes all of its token's weights NaN. Throws c10::Error where shapes or dtypes do not fit.
Routing route(const at::Tensor& scores, int64_t k, bool renormalise);

/// The routing to experts [N,k] int32 that were chosen before, those of a token all different, with
/// the weights that these scores give them. Throws c10::Error as `route`, and on the CPU where an
/// expert is none of 0 to E - 1; on a GPU, where the program would have to wait for them, such a
/// one has the weight NaN and the rows of the nearest.
Routing route_to(const at::Tensor& experts, const at::Tensor& scores, bool renormalise);

/// The gradient of the scores [N,E], in their dtype, of that of the weights [N,k] float32; the
/// choice itself has none. scores, renormalise: what the routing was made of. Throws c10::Error, as
/// all that take a routing, where its shapes or dtypes do not fit or k is not 1 to 16.
at::Tensor route_backward(const at::Tensor& grad_weights, const at::Tensor& scores,
                          const Routing& routing, bool renormalise);

/// Rows [N k,C] in the order of the experts, of tokens x [N,C] float32 or bfloat16.
at::Tensor dispatch(const at::Tensor& x, const Routing& routing);

/// The gradient [N,C] of x: for each token the sum of its k rows of grad [N k,C], in float32, in
/// the order of its slots.
at::Tensor dispatch_backward(const at::Tensor& grad, const Routing& routing);

/// y [N,C], of the experts' rows x [N k,C] float32 or bfloat16: for each token the sum of its k
/// rows times their weights, in float32, in the order of its slots.
at::Tensor combine(const at::Tensor& x, const Routing& routing);

/// The gradients of x [N k,C] and of the weights [N,k], of that of y [N,C]; x as `combine` had it.
std::pair<at::Tensor, at::Tensor> combine_backward(const at::Tensor& grad, const at::Tensor& x,
                                                   const Routing& routing);

}  // namespace rev::kernels
