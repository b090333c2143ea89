// GPT-2 (pre-norm, learned positions, tanh GELU, the head tied to the token table) whose layers are
// coupled by any scheme. Parameters have Hugging Face's names and layouts:
//
//   transformer.wte.weight    transformer.wpe.weight    transformer.ln_f.weight
//   transformer.h.<l>.ln_1.weight
//   transformer.h.<l>.attn.c_attn.weight
//   transformer.h.<l>.attn.c_proj.weight
//   transformer.h.<l>.ln_2.weight
//   transformer.h.<l>.mlp.c_fc.weight
//   transformer.h.<l>.mlp.c_proj.weight
//
// with biases for the norms and the linear maps, and for revffn the adapters
// transformer.h.<l>.p_up.weight and transformer.h.<l>.p_down.weight.
#pragma once

#include <ATen/core/Tensor.h>
#include <cstdint>
#include <torch/nn/pimpl.h>

#include "rev/base/named_tensors.h"
#include "rev/models/causal_lm.h"
#include "rev/models/gpt2_config.h"
#include "rev/nn/embedding.h"
#include "rev/nn/norm.h"

namespace rev::models {

class Gpt2Impl : public CausalLm {
 public:
  /// Weights from the default generator, N(0, 0.02^2), those that write into a state divided by
  /// sqrt(2 L). Throws c10::Error where the config does not fit together.
  explicit Gpt2Impl(const Gpt2Config& config);

  /// The tokens' and positions' rows, with dropout in training.
  at::Tensor embed(const at::Tensor& tokens) override;
  at::Tensor norm(const at::Tensor& x) override { return ln_f_->forward(x); }
  const at::Tensor& head() const override { return wte_->weight; }
  int64_t seq() const override { return config_.seq; }
  const Coupling& coupling() const override { return config_; }
  HfKeys hf_keys() const override { return hf_config(config_); }

  /// The config, its `memory` filled in.
  const Gpt2Config& config() const { return config_; }

  /// Names may lack the prefix `transformer.`; attention's mask buffers are passed over, and
  /// `lm_head.weight` where it equals the token table.
  void load_state_dict(const base::NamedTensors& tensors) override;

 private:
  Gpt2Config config_;
  nn::Embedding wte_{nullptr};
  nn::Embedding wpe_{nullptr};
  nn::LayerNorm ln_f_{nullptr};
};
TORCH_MODULE(Gpt2);

}  // namespace rev::models
