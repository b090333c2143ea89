#pragma once

#include <ATen/core/Tensor.h>
#include <cstdint>
#include <vector>

#include "rev/models/causal_lm.h"

namespace rev::retrofit {

/// Text to predict.
struct TextBatch {
  at::Tensor tokens;   ///< int64 [B,T]
  at::Tensor targets;  ///< int64 [B,T]; those that are kIgnoreIndex (rev/nn) are not predicted
};

/// How far a converted model is from its original on some text.
struct Comparison {
  int64_t tokens = 0;         ///< that were predicted
  double kl = 0;              ///< mean KL(original || converted), nats a token
  double agreement = 0;       ///< share of tokens for which both find the same one likeliest
  double original_loss = 0;   ///< mean cross-entropy, nats a token: perplexity is its exponential
  double converted_loss = 0;  ///< the same of the converted model

  /// After layer l, |p' - p| / |p| with p of the original, p' of the converted model: Euclidean
  /// norms over all tokens and channels.
  std::vector<double> layer_error;
};

/// Compares two models of one vocabulary and the same sizes, evaluated as they are set: put them
/// into evaluation before. No graph is recorded. Logits are taken in float32, a chunk of tokens at
/// a time. Throws c10::Error where the models' vocabularies, channels or layers differ, or there is
/// nothing to predict.
Comparison compare(models::CausalLm& original, models::CausalLm& converted,
                   const std::vector<TextBatch>& text);

}  // namespace rev::retrofit
