// What every model here is: a table of tokens, a stack of layers, a last norm and a head, which
// give the logits of each token's successor from the tokens up to it.
#pragma once

#include <ATen/core/Tensor.h>
#include <cstdint>
#include <memory>
#include <torch/nn/module.h>

#include "rev/base/named_tensors.h"
#include "rev/engine/stack.h"
#include "rev/models/coupling.h"
#include "rev/models/hf_config.h"
#include "rev/nn/key_value_cache.h"

namespace rev::models {

/// Where a key/value cache is given, tokens are the next ones after those that it holds, which with
/// them are at most seq(), and it takes them in; throws c10::Error unless the model is in
/// evaluation and no gradients are on.
class CausalLm : public torch::nn::Module {
 public:
  /// Logits: tokens int64 [B,T], T at most seq() -> [B,T,V].
  at::Tensor forward(const at::Tensor& tokens, nn::KeyValueCache* cache = nullptr);

  /// Logits of the token after the last: [B,T] -> [B,V].
  at::Tensor next(const at::Tensor& tokens, nn::KeyValueCache* cache = nullptr);

  /// Mean cross-entropy of the logits at tokens against targets, both int64 [B,T], a float32
  /// scalar; the logits are never whole, see `nn::linear_cross_entropy`, which also says what a
  /// target may be.
  at::Tensor loss(const at::Tensor& tokens, const at::Tensor& targets);

  /// What the head reads: [B,T] -> [B,T,C], after the last norm. The logits are its products with
  /// the rows of `head`.
  at::Tensor hidden(const at::Tensor& tokens, nn::KeyValueCache* cache = nullptr);

  /// The parts of it: the last norm, of the stack's result, [B,T,C] -> [B,T,C];
  virtual at::Tensor norm(const at::Tensor& x) = 0;

  /// what the stack reads: tokens int64 [B,T] -> [B,T,C]. Throws c10::Error where T exceeds seq().
  virtual at::Tensor embed(const at::Tensor& tokens) = 0;

  /// The head's weight [V,C], the parameter itself; the token table's where they are tied.
  virtual const at::Tensor& head() const = 0;

  int64_t vocab() const { return head().size(0); }  ///< V
  virtual int64_t seq() const = 0;                  ///< the most tokens in a sequence

  /// How the layers are coupled; its `memory` is filled in.
  virtual const Coupling& coupling() const = 0;
  engine::Stack& stack() { return *stack_; }

  /// The model as keys of Hugging Face's `config.json`.
  virtual HfKeys hf_keys() const = 0;

  /// The parameters by name, the tensors themselves.
  base::NamedTensors state_dict() const;

  /// Copies parameters by name, as Hugging Face has them. Throws c10::Error, before anything is
  /// changed, naming each tensor that is missing, unexpected or of another shape.
  virtual void load_state_dict(const base::NamedTensors& tensors) = 0;

 protected:
  std::unique_ptr<engine::Stack> stack_;  ///< made by a model's constructor
};

}  // namespace rev::models
