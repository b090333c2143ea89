#include "rev/data/entropy.h"

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <gtest/gtest.h>
#include <vector>

#include "data/tokens.h"
#include "rev/data/open_tokens.h"
#include "support/throws.h"

namespace rev::data {
namespace {

// Sums of logarithms: a few operations, each rounded to 1.1e-16, on values below 10.
constexpr double kRounding = 1e-14;

TEST(EntropyTest, IsTheFormulaOnAnExample) {
  // Train 0 1 0 2 0 1, V = 3: c(0) = 3, c(1) = 2, c(2) = 1; after 0: 1, 2, 1; after 1: 0; after 2:
  // 0.
  const TokenSource train = make_tokens({0, 1, 0, 2, 0, 1}, 3);
  const TokenSource valid = make_tokens({1, 0, 1, 1, 2}, 3);
  const double p0 = 4. / 9, p1 = 3. / 9, p2 = 2. / 9;
  const double unigram = -std::log(p0) - 2 * std::log(p1) - std::log(p2);
  const double bigram = -std::log((1 + p0) / 2)       // 0 after 1
                        - std::log((2 + 2 * p1) / 5)  // 1 after 0
                        - std::log((0 + p1) / 2)      // 1 after 1
                        - std::log((0 + p2) / 2);     // 2 after 1
  const NgramEntropy entropy = ngram_entropy(train, valid);
  EXPECT_NEAR(entropy.unigram, unigram / 4, kRounding);
  EXPECT_NEAR(entropy.bigram, bigram / 4, kRounding);
}

TEST(EntropyTest, ProbabilitiesSumToOne) {
  const TokenSource train = make_tokens({0, 1, 4, 1, 3, 0, 4, 4, 1, 0}, 6);
  for (std::uint16_t y = 0; y < 6; ++y) {
    double unigram = 0;
    double bigram = 0;
    for (std::uint16_t x = 0; x < 6; ++x) {
      const NgramEntropy entropy = ngram_entropy(train, make_tokens({y, x}, 6));
      unigram += std::exp(-entropy.unigram);
      bigram += std::exp(-entropy.bigram);
    }
    EXPECT_NEAR(unigram, 1, kRounding);
    EXPECT_NEAR(bigram, 1, kRounding) << "after " << y;
  }
}

TEST(EntropyTest, DenseAndSparseTablesAgree) {
  std::vector<std::uint16_t> tokens;
  for (int i = 0; i < 5000; ++i) tokens.push_back(static_cast<std::uint16_t>(i * i % 1021));
  // V enters the unigram alone; with the bigram's share from it the tables are compared.
  const auto entropy = [&](std::int64_t vocab) {
    return ngram_entropy(make_tokens(tokens, vocab), make_tokens(tokens, vocab)).bigram;
  };
  EXPECT_NEAR(entropy(1024), entropy(1025), 1e-3);  // ln(1025 / 1024)
  EXPECT_NE(entropy(1024), entropy(1025));
}

TEST(EntropyTest, PairsReachAcrossChunksAndSegments) {
  std::vector<std::uint16_t> tokens;
  for (int i = 0; i < 100'000; ++i) tokens.push_back(static_cast<std::uint16_t>(i % 7));
  const NgramEntropy entropy = ngram_entropy(make_tokens(tokens, 7, 1000), make_tokens(tokens, 7));
  EXPECT_NEAR(entropy.unigram, std::log(7.0), 1e-8);  // counts differ by one in 14,000
  // Each token has one successor: P = (c + P(x)) / (c + 1), so -ln P < 1 / c for c = 14,285.
  EXPECT_LT(entropy.bigram, 1.0 / 14'285);
}

TEST(EntropyTest, RefusesWhatCannotBeCompared) {
  const TokenSource tokens = make_tokens({1, 2, 3}, 5);
  EXPECT_THROW_WITH(ngram_entropy(tokens, make_tokens({1, 2}, 6)),
                    "train has a vocabulary of 5, valid one of 6");
  EXPECT_THROW_WITH(ngram_entropy(tokens, tokens.slice(0, 1)), "got 3 and 1");
  EXPECT_THROW_WITH(ngram_entropy(tokens.slice(0, 0), tokens), "got 0 and 3");
}

TEST(EntropyTest, RealTextIsAsPredictableAsKnown) {
  const char* data = std::getenv("REV_DATA_DIR");
  const auto text =
      std::filesystem::path(data == nullptr ? "" : data) / "corpora/tinyshakespeare.txt";
  if (!std::filesystem::exists(text)) GTEST_SKIP() << text << " is not there";
  const auto [train, valid] = split_tokens(open_tokens({text}), 0.1);
  const NgramEntropy entropy = ngram_entropy(train, valid);
  // The formula in 12 lines of Python; 1.1e5 logarithms are added, each sum rounded to 1e-16 of it.
  EXPECT_NEAR(entropy.unigram, 3.3474954237172296, 1e-10);
  EXPECT_NEAR(entropy.bigram, 2.4857575299581978, 1e-10);
}

}  // namespace
}  // namespace rev::data
