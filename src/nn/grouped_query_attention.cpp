#include "rev/nn/grouped_query_attention.h"

#include <c10/util/Exception.h>

#include "rev/nn/attention.h"
#include "rev/nn/key_value_cache.h"

namespace rev::nn {

using at::Tensor;

GroupedQueryAttentionImpl::GroupedQueryAttentionImpl(const GroupedQueryAttentionOptions& options)
    : width_(options.rotary.width) {
  TORCH_CHECK(options.heads > 0 && options.kv_heads > 0 && options.heads % options.kv_heads == 0,
              "attention: ", options.kv_heads, " heads of keys do not divide ", options.heads,
              " of queries");
  frequencies_ = register_buffer("frequencies", rotary_frequencies(options.rotary));
  const int64_t c = options.channels;
  const bool bias = options.with_bias;
  const int64_t q_width = options.heads * width_, kv_width = options.kv_heads * width_;
  q_proj = register_module("q_proj", Projection(c, q_width, bias));
  k_proj = register_module("k_proj", Projection(c, kv_width, bias));
  v_proj = register_module("v_proj", Projection(c, kv_width, bias));
  o_proj = register_module("o_proj", Projection(q_width, c, bias));
}

Tensor GroupedQueryAttentionImpl::forward(const Tensor& x, bool need_value) {
  const int64_t first = KeyValueCache::position();
  const auto heads = [&](Projection& map) {  // [B,T,C] -> [B,heads,T,D]
    return map->forward(x).unflatten(-1, {-1, width_}).transpose(1, 2);
  };
  const Tensor q = rotate(heads(q_proj), frequencies_, first);
  const Tensor k = rotate(heads(k_proj), frequencies_, first);
  const Tensor y = causal_attention(q, k, heads(v_proj));
  return o_proj->forward(y.transpose(1, 2).flatten(2), need_value);
}

}  // namespace rev::nn
