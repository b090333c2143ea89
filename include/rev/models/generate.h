#pragma once

#include <cstdint>
#include <vector>

#include "rev/models/gpt2.h"

namespace rev::models {

struct SamplingOptions {
  int64_t n_tokens = 100;
  double temperature = 1;  ///< logits are divided by it; 0 takes the likeliest token
  int64_t top_k = 0;       ///< only the k likeliest tokens are drawn from; 0: all
  uint64_t seed = 0;
};

/// Draws n_tokens tokens after `tokens` (at least one), each from softmax(logits / temperature)
/// given the last config().seq tokens; returns the new ones.
///
/// Draws come from a generator of their own, on the CPU: the same model, tokens and options give
/// the same tokens on one machine. The model is put into evaluation and back. Throws c10::Error
/// where there is no token, one is outside of the vocabulary, or an option is negative.
std::vector<int64_t> generate(Gpt2& model, std::vector<int64_t> tokens,
                              const SamplingOptions& options);

}  // namespace rev::models
