#pragma once

#include <cstdint>
#include <vector>

#include "rev/models/causal_lm.h"

namespace rev::models {

struct SamplingOptions {
  int64_t n_tokens = 100;
  double temperature = 1;  ///< logits are divided by it; 0 takes the likeliest token
  int64_t top_k = 0;       ///< only the k likeliest tokens are drawn from; 0: all
  uint64_t seed = 0;
  /// Of these, only the fewest likeliest whose probabilities sum to at least top_p; 1: all.
  double top_p = 1;
  std::vector<int64_t> stop = {};  ///< tokens after which no more are drawn
};

/// Draws n_tokens tokens after `tokens` (at least one), each from softmax(logits / temperature)
/// given the last model.seq() tokens; returns the new ones, the last of them where it is one of
/// `stop` too.
///
/// Keys and values of earlier tokens are kept while the text is not longer than model.seq(). Draws
/// come from a generator of their own, on the CPU: the same model, tokens and options give the same
/// tokens on one machine. The model is put into evaluation and back. Throws c10::Error where there
/// is no token, one is outside of the vocabulary, or an option is negative or top_p above 1.
std::vector<int64_t> generate(CausalLm& model, std::vector<int64_t> tokens,
                              const SamplingOptions& options);

}  // namespace rev::models
