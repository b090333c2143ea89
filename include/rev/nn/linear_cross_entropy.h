// The loss of a language model's head, mean over tokens of -log softmax(x W^T)[target], in chunks
// of tokens. The logits [N,V] are never whole, and the gradients of x and W are made chunk by chunk
// while a chunk's logits are at hand: three products a chunk and nothing recomputed in backward.
#pragma once

#include <ATen/core/Tensor.h>
#include <cstdint>

#include "rev/kernels/cross_entropy.h"

namespace rev::nn {

/// Targets with this value take no part in the mean.
using kernels::kIgnoreIndex;

/// mean over n of -log softmax(x_n W^T)[targets_n] + z_loss lse_n^2, where lse_n is the logarithm
/// of the sum of the logits' exponentials, which a z_loss above 0 keeps near 0 (arXiv 2204.02311).
///
/// x [N,C], weight [V,C], targets int64 [N], each in 0..V-1 or kIgnoreIndex (with no other the loss
/// is 0). chunk: tokens at a time; a chunk's logits take 4 V chunk bytes, 2 V chunk under bfloat16.
/// Returns a scalar in float32 (float64 for float64). Products are taken in autocast's dtype where
/// it is on; the softmax, the sum of the loss and the sum of weight's gradient over chunks in
/// float32 at least, the softmax by `kernels::cross_entropy_` but in float64. Without a graph to
/// record only the loss is computed. The same inputs give the same bits. Throws c10::Error where
/// shapes do not fit, and on a second derivative.
at::Tensor linear_cross_entropy(const at::Tensor& x, const at::Tensor& weight,
                                const at::Tensor& targets, int64_t chunk = 1024, double z_loss = 0);

}  // namespace rev::nn
