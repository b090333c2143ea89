#pragma once

#include <cstdint>
#include <string>

#include "rev/models/coupling.h"
#include "rev/models/hf_config.h"

namespace rev::models {

/// Everything that makes a GPT-2: its sizes, and how its layers are coupled and kept.
struct Gpt2Config : Coupling {
  int64_t layers = 12;     ///< L
  int64_t heads = 12;      ///< H, a divisor of channels
  int64_t channels = 768;  ///< C
  int64_t seq = 1024;      ///< the most tokens in a sequence
  int64_t vocab = 50257;   ///< V
  double dropout = 0;      ///< of embeddings, attention weights and each branch's result
  bool bias = true;        ///< in linear maps and norms

  /// The sizes named tiny (4 layers of 128 channels, 4 heads, 64 bytes), gpt2 (124M parameters),
  /// gpt2-medium (355M), gpt2-large (774M) or gpt2-xl (1558M). Throws c10::Error for another name.
  static Gpt2Config preset(const std::string& name);

  /// The sizes, dropout and names of a Hugging Face GPT-2, scheme residual; keys that do not matter
  /// here are passed over. Throws c10::Error naming a key that is missing, of another type, or of a
  /// value that this model has no part for.
  static Gpt2Config from_hf(const HfKeys& keys);
};

/// Throws c10::Error with one sentence where a size is not positive, sizes do not divide, or a
/// probability is outside of [0,1).
void check(const Gpt2Config& config);

/// Numbers that the model's parameters hold. (In double: the sizes of a file may be absurd.)
double count_parameters(const Gpt2Config& config);

/// The model as keys of Hugging Face's `config.json`. Scheme residual: `GPT2LMHeadModel` builds the
/// same model from them. It knows no other scheme: for those model_type is "rev-gpt2" and
/// architectures is left out, so that none is taken for a residual model.
HfKeys hf_config(const Gpt2Config& config);

}  // namespace rev::models
