#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "rev/models/coupling.h"
#include "rev/models/hf_config.h"
#include "rev/nn/rotary.h"

namespace rev::models {

/// Everything that makes a Llama: its sizes, and how its layers are coupled and kept.
struct LlamaConfig : Coupling {
  int64_t layers = 0;        ///< L
  int64_t heads = 0;         ///< H
  int64_t kv_heads = 0;      ///< K, a divisor of heads
  int64_t channels = 0;      ///< C
  int64_t hidden = 0;        ///< F
  int64_t seq = 0;           ///< the most tokens in a sequence
  int64_t vocab = 0;         ///< V
  nn::RotaryOptions rotary;  ///< its width is that of a head, D
  double eps = 1e-6;         ///< of the norms
  bool tied = false;         ///< the head is the token table
  bool attention_bias = false;
  bool mlp_bias = false;

  std::optional<int64_t> bos;  ///< the token before a text
  std::vector<int64_t> eos;    ///< the tokens that end one

  /// A Hugging Face Llama (`model_type` llama), scheme residual; keys that do not matter here are
  /// passed over. Throws c10::Error naming a key that is missing, of another type, or of a value
  /// that this model has no part for.
  static LlamaConfig from_hf(const HfKeys& keys);
};

/// Throws c10::Error with one sentence where a size is not positive, sizes do not divide, rotary
/// options have no meaning, or the scheme is revffn, whose streams of half the width are none that
/// a Llama's maps could read.
void check(const LlamaConfig& config);

/// Numbers that the model's parameters hold. (In double: the sizes of a file may be absurd.)
double count_parameters(const LlamaConfig& config);

/// The model as keys of Hugging Face's `config.json`. Scheme residual: `LlamaForCausalLM` builds
/// the same model from them. It knows no other scheme: for those model_type is "rev-llama" and
/// architectures is left out, so that none is taken for a residual model.
HfKeys hf_config(const LlamaConfig& config);

}  // namespace rev::models
