#include "rev/nn/attention.h"

#include <ATen/OpMathType.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/softmax.h>
#include <cmath>
#include <limits>
#include <vector>

#include "rev/nn/dropout.h"

namespace rev::nn {

using at::Tensor;

Tensor causal_attention(const Tensor& q, const Tensor& k, const Tensor& v, double dropout) {
  if (dropout == 0) return at::scaled_dot_product_attention(q, k, v, {}, 0.0, /*is_causal=*/true);

  const int64_t n_tokens = q.size(-2);
  const double scale = 1 / std::sqrt(static_cast<double>(q.size(-1)));
  const Tensor later = at::ones({n_tokens, n_tokens}, q.options().dtype(at::kBool)).triu_(1);
  const Tensor scores =
      at::matmul(q * scale, k.mT()).masked_fill(later, -std::numeric_limits<double>::infinity());
  const Tensor weights = at::softmax(scores, -1, at::toOpMathType(q.scalar_type()));  // [B,H,T,T]
  return at::matmul(nn::dropout(weights, dropout).to(v.scalar_type()), v);
}

AttentionImpl::AttentionImpl(const AttentionOptions& options) : options_(options) {
  TORCH_CHECK(options.heads > 0 && options.channels % options.heads == 0,
              "attention: ", options.heads, " heads do not divide ", options.channels, " channels");
  const int64_t channels = options.channels;
  c_attn = register_module("c_attn", Linear(channels, 3 * channels, options.with_bias));
  c_proj = register_module("c_proj", Linear(channels, channels, options.with_bias));
}

// [B,T,C] -> [B,H,T,D]
Tensor AttentionImpl::split(const Tensor& x) const {
  return x.unflatten(-1, {options_.heads, -1}).transpose(1, 2);
}

Tensor AttentionImpl::forward(const Tensor& x, bool need_value) {
  const std::vector<Tensor> qkv = c_attn->forward(x).chunk(3, -1);
  return project(causal_attention(split(qkv[0]), split(qkv[1]), split(qkv[2]), dropout()),
                 need_value);
}

Tensor AttentionImpl::queries(const Tensor& x) {
  const int64_t channels = options_.channels;
  const Tensor bias = c_attn->bias.defined() ? c_attn->bias.narrow(0, 0, channels) : Tensor();
  return split(affine(x, c_attn->weight.narrow(1, 0, channels), bias));
}

std::pair<Tensor, Tensor> AttentionImpl::keys_values(const Tensor& x) {
  const int64_t channels = options_.channels;
  const Tensor bias =
      c_attn->bias.defined() ? c_attn->bias.narrow(0, channels, 2 * channels) : Tensor();
  const std::vector<Tensor> kv =
      affine(x, c_attn->weight.narrow(1, channels, 2 * channels), bias).chunk(2, -1);
  return {split(kv[0]), split(kv[1])};
}

Tensor AttentionImpl::project(const Tensor& heads, bool need_value) {
  const Tensor merged = heads.transpose(1, 2).flatten(2);  // [B,T,C]
  return nn::dropout(c_proj->forward(merged, need_value), dropout());
}

}  // namespace rev::nn
