// One layer of Llama with its parameters, and that layer as the fields that each scheme couples.
#pragma once

#include <string>
#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>
#include <vector>

#include "rev/engine/field.h"
#include "rev/models/llama_config.h"
#include "rev/nn/gated_mlp.h"
#include "rev/nn/grouped_query_attention.h"
#include "rev/nn/norm.h"

namespace rev::models {

/// The parameters of a layer, under Hugging Face's names: weights ~ N(0, 0.02^2), those of o_proj
/// and down_proj divided by sqrt(2 L).
class LlamaBlockImpl : public torch::nn::Module {
 public:
  explicit LlamaBlockImpl(const LlamaConfig& config);

  nn::RMSNorm input_layernorm{nullptr};
  nn::GroupedQueryAttention self_attn{nullptr};
  nn::RMSNorm post_attention_layernorm{nullptr};
  nn::GatedMlp mlp{nullptr};
};
TORCH_MODULE(LlamaBlock);

/// The layer's fields: see `make_block_fields`.
std::vector<engine::FieldPtr> make_fields(const LlamaBlock& block, const std::string& scheme);

}  // namespace rev::models
