#include "rev/nn/cross_attention.h"

#include <ATen/OpMathType.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/softmax.h>
#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "rev/base/autocast_state.h"
#include "rev/nn/dropout.h"

namespace rev::nn {

using at::Tensor;

double contracting_std(int64_t channels, int64_t heads, int64_t layers, double std, double rms,
                       double contraction) {
  const double c = std::sqrt(static_cast<double>(channels));
  const double d = std::sqrt(static_cast<double>(channels) / static_cast<double>(heads));
  const double residual = std / std::sqrt(2.0 * static_cast<double>(layers));
  const double norm = (1 + std::sqrt(2.0)) / rms;
  const double queries = 2 * std * c;
  const double softmax = std * std * c * c * d / 2;
  const double projection = 2 * residual * c;
  const double p_down = (1 + std::sqrt(0.5)) * c;
  return std::min(residual, contraction / (norm * queries * softmax * projection * p_down));
}

CrossAttention::CrossAttention(Linear p_up, LayerNorm norm, Attention attention, Linear p_down)
    : p_up_(std::move(p_up)),
      norm_(std::move(norm)),
      attention_(std::move(attention)),
      p_down_(std::move(p_down)) {}

Tensor CrossAttention::lowered(const Tensor& attention, bool need_value) const {
  const base::AutocastGuard full_precision({attention.device().type(), false, at::kBFloat16});
  return p_down_->forward(attention.to(p_down_->weight.scalar_type()), need_value);
}

Tensor CrossAttention::normed(const Tensor& x) const { return norm_->operand(p_up_->forward(x)); }

Tensor CrossAttention::forward(const Tensor& x1, const Tensor& x2, bool need_value) const {
  const Tensor q = attention_->queries(normed(x1));
  const auto [k, v] = attention_->keys_values(normed(x2));
  const Tensor heads = causal_attention(q, k, v, attention_->dropout());
  return lowered(attention_->project(heads), need_value);
}

std::function<Tensor(const Tensor&, const Tensor&)> CrossAttention::token_map(
    const Tensor& x2) const {
  const at::NoGradGuard no_grad;
  const auto kv = attention_->keys_values(normed(x2));
  const Tensor k = kv.first, v = kv.second;  // [B,H,T,D]
  const int64_t n_sequences = k.size(0), n_heads = k.size(1), n_tokens = k.size(2);
  const double scale = 1 / std::sqrt(static_cast<double>(k.size(3)));
  const double p = attention_->dropout();
  Tensor weight_mask, result_mask;
  if (p > 0) {
    weight_mask = dropout_mask({n_sequences, n_heads, n_tokens, n_tokens}, p, x2.device());
    result_mask = dropout_mask({n_sequences, n_tokens, n_heads * k.size(3)}, p, x2.device());
  }

  return [=, self = *this](const Tensor& x, const Tensor& index) {
    const at::NoGradGuard guard;
    const Tensor q = self.attention_->queries(self.normed(x.unsqueeze(0))).squeeze(0);  // [H,N,D]
    const Tensor sequence = index.div(n_tokens, "floor");
    const Tensor token = index.remainder(n_tokens);
    const Tensor places = at::arange(n_tokens, index.options());
    Tensor heads = at::empty_like(q);
    for (int64_t b = 0; b < n_sequences; ++b) {
      const Tensor here = sequence.eq(b).nonzero().squeeze(1);
      if (here.numel() == 0) continue;
      const Tensor own = token.index_select(0, here);
      const Tensor scores =
          at::matmul(q.index_select(1, here) * scale, k[b].mT())  // [H,n,T]
              .masked_fill_(places > own.unsqueeze(1), -std::numeric_limits<double>::infinity());
      Tensor weights = at::softmax(scores, -1, at::toOpMathType(q.scalar_type()));
      if (p > 0) weights = apply_dropout(weights, weight_mask[b].index_select(1, own), p);
      heads.index_copy_(1, here, at::matmul(weights.to(v.scalar_type()), v[b]));
    }
    Tensor result = self.attention_->c_proj->forward(heads.transpose(0, 1).flatten(1));  // [N,C]
    if (p > 0) result = apply_dropout(result, result_mask.flatten(0, 1).index_select(0, index), p);
    return self.lowered(result, true);
  };
}

}  // namespace rev::nn
