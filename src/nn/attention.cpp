#include "rev/nn/attention.h"

#include <ATen/OpMathType.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/softmax.h>
#include <cmath>
#include <limits>
#include <optional>
#include <vector>

#include "rev/nn/dropout.h"
#include "rev/nn/key_value_cache.h"

namespace rev::nn {

using at::Tensor;

namespace {

// [n_q,n_k]: true where a key is not later than the query, the queries being the last tokens.
Tensor visible(int64_t n_q, int64_t n_k, const Tensor& like) {
  return at::ones({n_q, n_k}, like.options().dtype(at::kBool)).tril_(n_k - n_q);
}

Tensor fused_attention(const Tensor& q, const Tensor& k, const Tensor& v) {
  const int64_t n_q = q.size(-2), n_k = k.size(-2);
  const bool is_square = n_q == n_k;
  std::optional<Tensor> mask;
  if (!is_square && n_q > 1) mask = visible(n_q, n_k, q);
  return at::scaled_dot_product_attention(q, k, v, mask, 0.0, is_square, std::nullopt,
                                          /*enable_gqa=*/q.size(1) != k.size(1));
}

// The same with dropout of the weights.
Tensor dropped_attention(const Tensor& q, const Tensor& k, const Tensor& v, double dropout) {
  const double scale = 1 / std::sqrt(static_cast<double>(q.size(-1)));
  const Tensor later = visible(q.size(-2), k.size(-2), q).logical_not_();
  const Tensor scores =
      at::matmul(q * scale, k.mT()).masked_fill(later, -std::numeric_limits<double>::infinity());
  const Tensor weights = at::softmax(scores, -1, at::toOpMathType(q.scalar_type()));  // [B,H,T,T]
  return at::matmul(nn::dropout(weights, dropout).to(v.scalar_type()), v);
}

// [B,K,T,D] -> [B,H,T,D]
Tensor repeat_heads(const Tensor& t, int64_t n_heads) {
  return t.size(1) == n_heads ? t : t.repeat_interleave(n_heads / t.size(1), 1);
}

}  // namespace

Tensor causal_attention(const Tensor& q, const Tensor& k, const Tensor& v, double dropout) {
  TORCH_CHECK(k.size(1) > 0 && q.size(1) % k.size(1) == 0, "causal_attention: ", k.size(1),
              " heads of keys do not divide ", q.size(1), " of queries");
  if (KeyValueCache* cache = KeyValueCache::current()) {
    const auto [all_k, all_v] = cache->extend(k, v);
    return fused_attention(q, all_k, all_v);
  }
  // Not all of CUDA's fused kernels know of heads that are shared.
  const bool shares = dropout == 0 && q.is_cpu();
  const Tensor own_k = shares ? k : repeat_heads(k, q.size(1));
  const Tensor own_v = shares ? v : repeat_heads(v, q.size(1));
  return dropout == 0 ? fused_attention(q, own_k, own_v)
                      : dropped_attention(q, own_k, own_v, dropout);
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
