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
#include <memory>
#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include "rev/base/named_tensors.h"
#include "rev/engine/stack.h"
#include "rev/models/gpt2_config.h"
#include "rev/nn/embedding.h"
#include "rev/nn/norm.h"

namespace rev::models {

class Gpt2Impl : public torch::nn::Module {
 public:
  /// Weights from the default generator, N(0, 0.02^2), those that write into a state divided by
  /// sqrt(2 L). Throws c10::Error where the config does not fit together.
  explicit Gpt2Impl(const Gpt2Config& config);

  /// Logits: tokens int64 [B,T], T at most config().seq -> [B,T,V].
  at::Tensor forward(const at::Tensor& tokens);

  /// Logits of the token after the last: [B,T] -> [B,V].
  at::Tensor next(const at::Tensor& tokens);

  /// Mean cross-entropy of the logits at tokens against targets, both int64 [B,T], a float32
  /// scalar; the logits are never whole, see `nn::linear_cross_entropy`, which also says what a
  /// target may be.
  at::Tensor loss(const at::Tensor& tokens, const at::Tensor& targets);

  /// What the stack reads: the tokens' and positions' rows, with dropout in training. tokens int64
  /// [B,T] -> [B,T,C].
  at::Tensor embed(const at::Tensor& tokens);

  /// The config, its `memory` filled in.
  const Gpt2Config& config() const { return config_; }
  engine::Stack& stack() { return *stack_; }

  /// The parameters by name, the tensors themselves.
  base::NamedTensors state_dict() const;

  /// Copies parameters by name. Names may lack the prefix `transformer.`; attention's mask buffers
  /// are passed over, and `lm_head.weight` where it equals the token table. Throws c10::Error,
  /// before anything is changed, naming each tensor that is missing, unexpected or of another
  /// shape.
  void load_state_dict(const base::NamedTensors& tensors);

 private:
  at::Tensor hidden(const at::Tensor& tokens);

  Gpt2Config config_;
  nn::Embedding wte_{nullptr};
  nn::Embedding wpe_{nullptr};
  nn::LayerNorm ln_f_{nullptr};
  std::unique_ptr<engine::Stack> stack_;
};
TORCH_MODULE(Gpt2);

}  // namespace rev::models
