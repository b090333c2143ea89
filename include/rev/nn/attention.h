// Causal multi-head self-attention, softmax(q k^T / sqrt(D)) v over the tokens up to one's own,
// with GPT-2's packed projection: c_attn [C,3C] holds the queries', keys' and values' weights side
// by side.
#pragma once

#include <ATen/core/Tensor.h>
#include <cstdint>
#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>
#include <utility>

#include "rev/nn/linear.h"

namespace rev::nn {

/// softmax(q k^T / sqrt(D) + mask) v, where the mask hides later tokens; q [B,H,T,D], k and v
/// [B,K,T,D]: each of the K heads of keys and values serves H / K successive ones of queries.
///
/// Without dropout this is LibTorch's fused attention. With it the weights [B,H,T,T] are made, and
/// one mask of their shape is drawn; the softmax is then taken in float32 at least. Within a
/// `KeyValueCache::Scope` k and v are added to those kept, and the T queries, which are the last
/// ones, see them all.
at::Tensor causal_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                            double dropout = 0);

struct AttentionOptions {
  int64_t channels = 0;  ///< C
  int64_t heads = 0;     ///< H, a divisor of C
  double dropout = 0;    ///< of the attention weights and, drawn after them, of the result
  bool with_bias = true;
};

/// Attn(x) = dropout(merge(causal_attention(heads of x c_attn)) c_proj), [B,T,C] -> [B,T,C].
///
/// Dropout acts in training only. The constructor throws c10::Error where heads do not divide
/// channels.
class AttentionImpl : public torch::nn::Module {
 public:
  explicit AttentionImpl(const AttentionOptions& options);

  /// need_value: where false the last product is left out, see `affine`.
  at::Tensor forward(const at::Tensor& x, bool need_value = true);

  /// The steps of `forward`, for attention whose queries come from elsewhere: x [B,T,C] to queries,
  /// or keys and values, [B,H,T,D]; and heads [B,H,T,D] to the result [B,T,C].
  at::Tensor queries(const at::Tensor& x);
  std::pair<at::Tensor, at::Tensor> keys_values(const at::Tensor& x);
  at::Tensor project(const at::Tensor& heads, bool need_value = true);

  /// The probability of dropout as it stands: 0 outside of training.
  double dropout() const { return is_training() ? options_.dropout : 0; }

  Linear c_attn{nullptr};
  Linear c_proj{nullptr};

 private:
  at::Tensor split(const at::Tensor& x) const;

  AttentionOptions options_;
};
TORCH_MODULE(Attention);

}  // namespace rev::nn
