// Llama (pre-norm by root mean square, rotary positions, grouped queries, a gated MLP; arXiv
// 2302.13971, 2407.21783) whose layers are coupled by any scheme but revffn. Parameters have
// Hugging Face's names and layouts:
//
//   model.embed_tokens.weight    model.norm.weight    lm_head.weight (where it is not tied)
//   model.layers.<l>.input_layernorm.weight
//   model.layers.<l>.self_attn.{q,k,v,o}_proj.weight
//   model.layers.<l>.post_attention_layernorm.weight
//   model.layers.<l>.mlp.{gate,up,down}_proj.weight
//
// with biases of the linear maps where the config says so.
#pragma once

#include <ATen/core/Tensor.h>
#include <cstdint>
#include <torch/nn/pimpl.h>

#include "rev/base/named_tensors.h"
#include "rev/models/causal_lm.h"
#include "rev/models/llama_config.h"
#include "rev/nn/embedding.h"
#include "rev/nn/linear.h"
#include "rev/nn/norm.h"

namespace rev::models {

class LlamaImpl : public CausalLm {
 public:
  /// Weights from the default generator, N(0, 0.02^2), those that write into a state divided by
  /// sqrt(2 L). Throws c10::Error where the config does not fit together.
  explicit LlamaImpl(const LlamaConfig& config);

  /// The tokens' rows.
  at::Tensor embed(const at::Tensor& tokens) override;
  at::Tensor norm(const at::Tensor& x) override { return norm_->forward(x); }
  const at::Tensor& head() const override;
  int64_t seq() const override { return config_.seq; }
  const Coupling& coupling() const override { return config_; }
  HfKeys hf_keys() const override { return hf_config(config_); }

  /// The config, its `memory` filled in.
  const LlamaConfig& config() const { return config_; }

  /// The frequencies that older checkpoints hold are passed over, and, where the head is tied,
  /// `lm_head.weight` if it equals the token table.
  void load_state_dict(const base::NamedTensors& tensors) override;

 private:
  LlamaConfig config_;
  nn::Embedding embed_tokens_{nullptr};
  nn::RMSNorm norm_{nullptr};
  nn::Projection lm_head_{nullptr};  // none where it is tied
};
TORCH_MODULE(Llama);

}  // namespace rev::models
