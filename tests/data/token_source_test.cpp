#include "rev/data/token_source.h"

#include <gtest/gtest.h>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "data/tokens.h"
#include "support/throws.h"

namespace rev::data {
namespace {

std::vector<std::uint16_t> count_up(std::size_t n) {
  std::vector<std::uint16_t> tokens(n);
  std::iota(tokens.begin(), tokens.end(), std::uint16_t{0});
  return tokens;
}

TEST(TokenSourceTest, AnyRangeReadsTheSameHoweverItIsCut) {
  constexpr std::int64_t kTokens = 23;
  for (const std::int64_t piece : {1, 2, 7, 22, 23}) {
    const TokenSource tokens = make_tokens(count_up(kTokens), kTokens, piece);
    ASSERT_EQ(tokens.size(), kTokens);
    for (std::int64_t begin = 0; begin <= kTokens; ++begin) {
      for (std::int64_t end = begin; end <= kTokens; ++end) {
        std::vector<std::int64_t> expected(static_cast<std::size_t>(end - begin));
        std::iota(expected.begin(), expected.end(), begin);
        std::vector<std::int64_t> out(expected.size());
        tokens.read(begin, end - begin, out.data());
        EXPECT_EQ(out, expected);
        EXPECT_EQ(read_all(tokens.slice(begin, end)), expected);
      }
    }
  }
}

TEST(TokenSourceTest, ASliceOfASliceCountsFromItsOwnStart) {
  const TokenSource tokens = make_tokens(count_up(20), 20, 3).slice(5, 15);
  EXPECT_EQ(read_all(tokens.slice(2, 5)), (std::vector<std::int64_t>{7, 8, 9}));
}

TEST(TokenSourceTest, IsTextWhereAllTokensAreBytes) {
  const auto owner = std::make_shared<const std::string>("text");
  const TokenSource::Segment bytes{owner, owner->data(), 1, 4};
  const TokenSource::Segment ids{owner, owner->data(), 2, 2};
  EXPECT_TRUE(TokenSource({bytes, bytes}, 300).is_text());
  EXPECT_TRUE(TokenSource({bytes, bytes}, 300).slice(1, 2).is_text());
  EXPECT_FALSE(TokenSource({ids}, 65536).is_text());
  EXPECT_FALSE(TokenSource({bytes, ids}, 65536).is_text());
}

TEST(TokenSourceTest, ReadsTokensOf32Bits) {
  const auto owner = std::make_shared<const std::vector<std::uint32_t>>(
      std::vector<std::uint32_t>{70000, 1, 4'000'000'000});
  const TokenSource tokens({{owner, owner->data(), 4, 3}}, 4'000'000'001);
  EXPECT_EQ(read_all(tokens.slice(1, 3)), (std::vector<std::int64_t>{1, 4'000'000'000}));
  EXPECT_EQ(read_all(tokens)[0], 70000);
  EXPECT_THROW_WITH(TokenSource({{owner, owner->data(), 8, 1}}, 1), "1, 2 or 4 bytes, got 8");
}

TEST(TokenSourceTest, RefusesWhatLiesOutside) {
  const TokenSource tokens = make_tokens(count_up(20), 20).slice(0, 10);
  std::int64_t out[20];
  EXPECT_THROW_WITH(tokens.read(5, 6, out), "tokens 5 to 11 asked for, there are 10");
  EXPECT_THROW_WITH(tokens.read(-1, 2, out), "tokens -1 to 1");
  EXPECT_THROW_WITH(tokens.read(1, -1, out), "tokens 1 to 0");
  EXPECT_THROW_WITH(tokens.slice(0, 11), "slice 0 to 11 asked for, there are 10");
  EXPECT_THROW_WITH(tokens.slice(3, 2), "slice 3 to 2");
}

TEST(TokenSourceTest, SplitGivesTheLastFractionToValidation) {
  const auto [train, valid] = split_tokens(make_tokens(count_up(25), 25, 4), 0.1);
  EXPECT_EQ(train.size(), 23);
  EXPECT_EQ(read_all(valid), (std::vector<std::int64_t>{23, 24}));
  EXPECT_EQ(read_all(train).back(), 22);
}

TEST(TokenSourceTest, SplitRefusesAnEmptyPart) {
  const TokenSource tokens = make_tokens(count_up(5), 5);
  EXPECT_THROW_WITH(split_tokens(tokens, 0), "a fraction between 0 and 1, got 0");
  EXPECT_THROW_WITH(split_tokens(tokens, 1), "got 1");
  EXPECT_THROW_WITH(split_tokens(tokens, -0.1), "got -0.1");
  EXPECT_THROW_WITH(split_tokens(tokens, 0.1), "5 tokens are too few");
}

}  // namespace
}  // namespace rev::data
