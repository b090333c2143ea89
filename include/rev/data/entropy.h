#pragma once

#include "rev/data/token_source.h"

namespace rev::data {

/// Cross-entropies in nats a token: what a model that sees less than the whole context can reach.
struct NgramEntropy {
  double unigram = 0;  ///< knows how frequent each token is
  double bigram = 0;   ///< knows the token before
};

/// Counts the tokens of `train` and predicts those of `valid`:
///   H = -1/(N-1) sum_{t=1}^{N-1} ln P(x_t | x_{t-1})
/// Both are smoothed, so that what was not seen has a probability, by rules without a constant:
///   unigram  P(x)     = (c(x) + 1) / (n + V)                       add-one
///   bigram   P(x | y) = (c(y,x) + u(y) P(x)) / (c(y) + u(y))       Witten and Bell 1991
/// c(y,x): how often x follows y; c(y): how often anything does; u(y): how many different tokens
/// do. Both averages run over the same tokens, all of valid but its first, so they may be compared
/// with a model's loss on them.
///
/// One pass over each source; the table of pairs is dense for V <= 1024 and grows with the number
/// of different pairs beyond. Throws c10::Error where train is empty, valid has fewer than 2 tokens
/// or V differs.
NgramEntropy ngram_entropy(const TokenSource& train, const TokenSource& valid);

}  // namespace rev::data
