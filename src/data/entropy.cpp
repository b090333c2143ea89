#include "rev/data/entropy.h"

#include <algorithm>
#include <c10/util/Exception.h>
#include <cmath>
#include <cstdint>
#include <unordered_map>
#include <vector>

namespace rev::data {
namespace {

/// Calls visit(x_t) for all tokens in order.
template <typename Visit>
void for_each_token(const TokenSource& tokens, Visit visit) {
  constexpr std::int64_t kChunk = 1 << 14;
  std::vector<std::int64_t> chunk(kChunk);
  for (std::int64_t begin = 0; begin < tokens.size(); begin += kChunk) {
    const std::int64_t n = std::min(kChunk, tokens.size() - begin);
    tokens.read(begin, n, chunk.data());
    std::for_each(chunk.begin(), chunk.begin() + n, visit);
  }
}

/// c(y,x), dense where V allows it.
class PairCounts {
 public:
  explicit PairCounts(std::int64_t vocab) : vocab_(vocab) {
    if (vocab <= 1024) dense_.resize(static_cast<std::size_t>(vocab * vocab));  // 8 MiB at most
  }

  /// Adds one; returns the count before.
  std::int64_t add(std::int64_t y, std::int64_t x) {
    const auto pair = static_cast<std::size_t>(y * vocab_ + x);
    return dense_.empty() ? sparse_[pair]++ : dense_[pair]++;
  }

  std::int64_t count(std::int64_t y, std::int64_t x) const {
    const auto pair = static_cast<std::size_t>(y * vocab_ + x);
    if (!dense_.empty()) return dense_[pair];
    const auto found = sparse_.find(pair);
    return found == sparse_.end() ? 0 : found->second;
  }

 private:
  std::int64_t vocab_;
  std::vector<std::int64_t> dense_;
  std::unordered_map<std::size_t, std::int64_t> sparse_;
};

}  // namespace

NgramEntropy ngram_entropy(const TokenSource& train, const TokenSource& valid) {
  TORCH_CHECK(train.vocab() == valid.vocab(), "ngram_entropy: train has a vocabulary of ",
              train.vocab(), ", valid one of ", valid.vocab());
  TORCH_CHECK(train.size() > 0 && valid.size() > 1,
              "ngram_entropy: expected training tokens and 2 validation tokens, got ", train.size(),
              " and ", valid.size());
  const std::int64_t V = train.vocab();
  std::vector<std::int64_t> unigrams(static_cast<std::size_t>(V));    // c(x)
  std::vector<std::int64_t> contexts(static_cast<std::size_t>(V));    // c(y)
  std::vector<std::int64_t> successors(static_cast<std::size_t>(V));  // u(y)
  PairCounts pairs(V);
  std::int64_t y = -1;
  for_each_token(train, [&](std::int64_t x) {
    ++unigrams[x];
    if (y >= 0) {
      ++contexts[y];
      if (pairs.add(y, x) == 0) ++successors[y];
    }
    y = x;
  });

  const double total = static_cast<double>(train.size() + V);  // n + V
  NgramEntropy sum;
  y = -1;
  for_each_token(valid, [&](std::int64_t x) {
    if (y >= 0) {
      const double p = static_cast<double>(unigrams[x] + 1) / total;
      const auto u = static_cast<double>(successors[y]);
      const auto c = static_cast<double>(contexts[y]);
      const auto c_yx = static_cast<double>(pairs.count(y, x));
      sum.unigram -= std::log(p);
      sum.bigram -= std::log(c > 0 ? (c_yx + u * p) / (c + u) : p);
    }
    y = x;
  });
  const auto n = static_cast<double>(valid.size() - 1);
  return {sum.unigram / n, sum.bigram / n};
}

}  // namespace rev::data
