#include "models/llama_block.h"

#include <ATen/core/grad_mode.h>
#include <cmath>

#include "models/block_field.h"

namespace rev::models {

LlamaBlockImpl::LlamaBlockImpl(const LlamaConfig& config) {
  nn::GroupedQueryAttentionOptions attention;
  attention.channels = config.channels;
  attention.heads = config.heads;
  attention.kv_heads = config.kv_heads;
  attention.rotary = config.rotary;
  attention.with_bias = config.attention_bias;
  input_layernorm = register_module("input_layernorm", nn::RMSNorm(config.channels, config.eps));
  self_attn = register_module("self_attn", nn::GroupedQueryAttention(attention));
  post_attention_layernorm =
      register_module("post_attention_layernorm", nn::RMSNorm(config.channels, config.eps));
  mlp = register_module("mlp", nn::GatedMlp(config.channels, config.hidden, config.mlp_bias));
  const at::NoGradGuard no_grad;
  const double scale = 1 / std::sqrt(2.0 * static_cast<double>(config.layers));
  self_attn->o_proj->weight.mul_(scale);
  mlp->down_proj->weight.mul_(scale);
}

std::vector<engine::FieldPtr> make_fields(const LlamaBlock& block, const std::string& scheme) {
  return make_block_fields(block->input_layernorm, block->self_attn,
                           block->post_attention_layernorm, block->mlp, scheme);
}

}  // namespace rev::models
