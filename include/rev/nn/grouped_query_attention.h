// Causal self-attention as Llama has it: rotary positions, fewer heads of keys and values than of
// queries (Ainslie et al., arXiv 2305.13245), and a weight for each of the four linear maps.
#pragma once

#include <ATen/core/Tensor.h>
#include <cstdint>
#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include "rev/nn/linear.h"
#include "rev/nn/rotary.h"

namespace rev::nn {

struct GroupedQueryAttentionOptions {
  int64_t channels = 0;  ///< C
  int64_t heads = 0;     ///< H
  int64_t kv_heads = 0;  ///< K, a divisor of H
  RotaryOptions rotary;  ///< its width is D, which need not be C / H
  bool with_bias = false;
};

/// Attn(x) = merge(causal_attention(rotate(heads of x W_q), rotate(heads of x W_k), heads of x
/// W_v)) W_o, [B,T,C] -> [B,T,C]; weights q_proj [HD,C], k_proj and v_proj [KD,C], o_proj [C,HD],
/// and their biases.
///
/// Within a `KeyValueCache::Scope` positions go on from those kept. The constructor throws
/// c10::Error where sizes do not fit together.
class GroupedQueryAttentionImpl : public torch::nn::Module {
 public:
  explicit GroupedQueryAttentionImpl(const GroupedQueryAttentionOptions& options);

  /// need_value: where false the last product is left out, see `affine`.
  at::Tensor forward(const at::Tensor& x, bool need_value = true);

  Projection q_proj{nullptr};
  Projection k_proj{nullptr};
  Projection v_proj{nullptr};
  Projection o_proj{nullptr};

 private:
  int64_t width_;
  at::Tensor frequencies_;  // a buffer, so that `to` moves it
};
TORCH_MODULE(GroupedQueryAttention);

}  // namespace rev::nn
