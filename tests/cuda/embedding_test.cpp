#include "cuda/embedding.h"

#include <algorithm>
#include <numeric>

#include "cuda/support/kernel_test.h"
#include "cuda/support/numbers.h"

namespace rev::cuda {
namespace {

using namespace testing;

std::vector<int64_t> random_tokens(uint64_t seed, int64_t n, int64_t low, int64_t high) {
  Random random(seed);
  std::vector<int64_t> tokens(static_cast<std::size_t>(n));
  for (int64_t& token : tokens) token = random.integer(low, high);
  return tokens;
}

int32_t key_of(int64_t token, int64_t vocabulary) {
  return static_cast<int32_t>(token >= 0 && token < vocabulary ? token : vocabulary);
}

// Keys in order, and their places.
auto sorted(const std::vector<int64_t>& tokens, int64_t vocabulary) {
  std::vector<int32_t> keys, places(tokens.size());
  std::iota(places.begin(), places.end(), 0);
  const auto key = [&](int32_t place) {
    return key_of(tokens[static_cast<std::size_t>(place)], vocabulary);
  };
  std::stable_sort(places.begin(), places.end(),
                   [&](int32_t a, int32_t b) { return key(a) < key(b); });
  for (const int32_t place : places) keys.push_back(key(place));
  return std::tuple(keys, places);
}

class SortTokensTest : public KernelTest {};

TEST_F(SortTokensTest, IsStableAndPutsStrangersLast) {
  struct Case {
    int64_t n, vocabulary, low, high;
  };
  // Around a warp's and a tile's tokens; one, two and three digits; strangers on both sides.
  const Case cases[] = {{1, 1, 0, 1},      {33, 255, 0, 256},        {257, 256, 0, 257},
                        {2049, 40, 0, 40}, {4100, 65536, -3, 70000}, {300, 1 << 20, 0, 1 << 20}};
  for (const Case& c : cases) {
    const auto tokens =
        random_tokens(static_cast<uint64_t>(c.n + c.vocabulary), c.n, c.low, c.high);
    const auto got = in_every_schedule([&] {
      const Buffer<int64_t> from(tokens);
      const Buffer<int32_t> memory(sort_tokens_words(c.n));
      const SortedTokens result =
          launch_sort_tokens(from.data(), c.n, c.vocabulary, memory.data(), nullptr);
      const auto all = memory.values();
      const auto part = [&](const int32_t* p) {
        const auto begin = all.begin() + (p - memory.data());
        return std::vector<int32_t>(begin, begin + c.n);
      };
      return std::tuple(part(result.tokens), part(result.places));
    });
    EXPECT_TRUE(same_bits(got, sorted(tokens, c.vocabulary))) << c.n << " of " << c.vocabulary;
  }
}

struct EmbeddingCase {
  int64_t n, channels, vocabulary;
  Shifts shift;
};

template <class W, class G>
void expect_rows(const EmbeddingCase& c) {
  Random random(static_cast<uint64_t>(c.n * c.channels));
  const auto tokens = random_tokens(3, c.n, c.n == 90 ? -1 : 0, c.vocabulary);
  const auto grad = random.reals<G>(c.n * c.channels, 2.0f);
  std::vector<W> want(static_cast<std::size_t>(c.vocabulary * c.channels), narrow<W>(0.5f));
  for (int64_t v = 0; v < c.vocabulary; ++v) {
    if (std::count(tokens.begin(), tokens.end(), v) == 0) continue;
    for (int64_t j = 0; j < c.channels; ++j) {
      float sum = 0;
      for (int64_t i = 0; i < c.n; ++i) {
        if (tokens[static_cast<std::size_t>(i)] == v) {
          sum += widen(grad[static_cast<std::size_t>(i * c.channels + j)]);
        }
      }
      want[static_cast<std::size_t>(v * c.channels + j)] = narrow<W>(sum);
    }
  }
  const auto order = sorted(tokens, c.vocabulary);
  const auto got = in_every_schedule([&] {
    const Buffer<int32_t> keys(std::get<0>(order)), places(std::get<1>(order));
    const Buffer<G> rows(grad, c.shift(0));
    const Buffer<W> dweight(
        std::vector<W>(static_cast<std::size_t>(c.vocabulary * c.channels), narrow<W>(0.5f)),
        c.shift(1));
    launch_embedding_backward(dweight.data(), rows.data(), {keys.data(), places.data()}, c.n,
                              c.channels, c.vocabulary, nullptr);
    return dweight.values();
  });
  EXPECT_TRUE(same_bits(got, want))
      << c.n << " x " << c.channels << " of " << c.vocabulary << ", " << c.shift;
}

template <class Types>
class EmbeddingTest : public KernelTest {};

template <class W_, class G_>
struct Types {
  using W = W_;
  using G = G_;
};
using AllTypes = ::testing::Types<Types<float, float>, Types<float, BFloat16>,
                                  Types<BFloat16, float>, Types<BFloat16, BFloat16>>;
TYPED_TEST_SUITE(EmbeddingTest, AllTypes);

TYPED_TEST(EmbeddingTest, AddsTheRowsOfEachTokenInTheirOrder) {
  // Runs shorter than a warp, of a warp and longer; strips of columns that end inside a lane's.
  const EmbeddingCase cases[] = {
      {1, 8, 1, 0},     {70, 8, 1, 0},    {33, 257, 2, 0}, {64, 31, 2, 1}, {7, 1, 4, 0},
      {12, 24, 100, 3}, {35, 1024, 3, 0}, {6, 1025, 2, 0}, {90, 16, 9, 1}, {0, 8, 3, 0}};
  for (const auto& c : cases) expect_rows<typename TypeParam::W, typename TypeParam::G>(c);
}

TYPED_TEST(EmbeddingTest, EitherPointerMayBeTheOneThatIsNotAligned) {
  for (const int only : {0, 1}) {
    expect_rows<typename TypeParam::W, typename TypeParam::G>({12, 24, 5, {1, only}});
  }
}

TYPED_TEST(EmbeddingTest, BlocksTakeTokensOneAfterTheOther) {
  for (const unsigned blocks : {1u, 2u}) {
    const FewBlocks few(blocks);
    expect_rows<typename TypeParam::W, typename TypeParam::G>({51, 24, 40, 0});
  }
}

}  // namespace
}  // namespace rev::cuda
