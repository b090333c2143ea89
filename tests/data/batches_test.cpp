#include "rev/data/batches.h"

#include <cmath>
#include <cstdint>
#include <gtest/gtest.h>
#include <numeric>
#include <set>
#include <torch/torch.h>
#include <vector>

#include "data/tokens.h"
#include "support/throws.h"

namespace rev::data {
namespace {

/// N tokens, each its own position.
TokenSource make_positions(std::size_t n) {
  std::vector<std::uint16_t> tokens(n);
  std::iota(tokens.begin(), tokens.end(), std::uint16_t{0});
  return make_tokens(std::move(tokens), 65536, 37);
}

TEST(BatchesTest, TargetsAreTheTokensAfterTheInputs) {
  const TokenSource tokens = make_positions(1000);
  const Batch batch = random_batch(tokens, 16, 10, {1, 2, 3});
  EXPECT_EQ(batch.inputs.sizes(), (at::IntArrayRef{16, 10}));
  EXPECT_EQ(batch.inputs.scalar_type(), at::kLong);
  EXPECT_TRUE(batch.inputs.is_contiguous() && batch.targets.is_contiguous());
  EXPECT_TRUE(at::equal(batch.targets, batch.inputs + 1));
  EXPECT_TRUE(at::equal(batch.inputs, batch.inputs.select(1, 0).unsqueeze(1) + torch::arange(10)));
}

TEST(BatchesTest, TheSamePositionGivesTheSameBatch) {
  const TokenSource tokens = make_positions(1000);
  const Batch first = random_batch(tokens, 4, 10, {7, 5, 0});
  random_batch(tokens, 4, 10, {7, 6, 0});
  torch::manual_seed(3);
  EXPECT_TRUE(at::equal(first.inputs, random_batch(tokens, 4, 10, {7, 5, 0}).inputs));
}

TEST(BatchesTest, SeedStepAndMicroStepEachChangeTheBatch) {
  const TokenSource tokens = make_positions(60'000);
  std::set<std::vector<std::int64_t>> seen;
  int n = 0;
  for (std::uint64_t seed : {0ull, 1ull, ~0ull}) {
    for (std::int64_t step = 0; step < 5; ++step) {
      for (std::int64_t micro_step = 0; micro_step < 3; ++micro_step, ++n) {
        const at::Tensor begins = random_batch(tokens, 4, 1, {seed, step, micro_step}).inputs;
        const auto* data = begins.const_data_ptr<std::int64_t>();
        seen.emplace(data, data + 4);
      }
    }
  }
  EXPECT_EQ(seen.size(), static_cast<std::size_t>(n));
}

TEST(BatchesTest, AccumulatedMicroStepsReadWhatOneLargeStepReads) {
  const TokenSource tokens = make_positions(1000);
  const at::Tensor large = random_batch(tokens, 12, 10, {7, 5, 0}).inputs;
  std::vector<at::Tensor> small;
  for (std::int64_t i = 0; i < 3; ++i)
    small.push_back(random_batch(tokens, 4, 10, {7, 5, i}).inputs);
  EXPECT_TRUE(at::equal(large, at::cat(small)));
}

// Begins by Random123's definition: what a run reads must not change with a later version.
TEST(BatchesTest, DrawsAreThoseOfPhilox) {
  const at::Tensor begins = random_batch(make_positions(1001), 4, 1, {42, 3, 1}).inputs.flatten();
  EXPECT_TRUE(at::equal(begins, torch::tensor({201, 636, 779, 579}, at::kLong))) << begins;
}

TEST(BatchesTest, EveryPlaceIsDrawnEquallyOften) {
  constexpr std::int64_t kPlaces = 50;
  constexpr std::int64_t kDraws = 100'000;
  const TokenSource tokens = make_positions(kPlaces + 3);
  const at::Tensor begins = random_batch(tokens, kDraws, 3, {1, 0, 0}).inputs.select(1, 0);
  const at::Tensor counts = at::bincount(begins, {}, kPlaces);
  EXPECT_EQ(counts.numel(), kPlaces);
  const double expected = static_cast<double>(kDraws) / kPlaces;
  const double chi2 = (counts - expected).square().sum().item<double>() / expected;
  // 49 degrees of freedom: mean 49, standard deviation sqrt(98); five of them on either side.
  EXPECT_NEAR(chi2, 49, 5 * std::sqrt(98.0));
}

TEST(BatchesTest, AllTokensButOneMakeASingleWindow) {
  const Batch batch = random_batch(make_positions(11), 3, 10, {1, 0, 0});
  EXPECT_TRUE(at::equal(batch.inputs, torch::arange(10).expand({3, 10})));
}

TEST(BatchesTest, SequentialWindowsMeetEveryTargetOnce) {
  for (const std::size_t n : {11, 12, 20, 21, 22, 99}) {
    const TokenSource tokens = make_positions(n);
    const std::int64_t n_windows = count_windows(tokens, 10);
    EXPECT_EQ(n_windows, static_cast<std::int64_t>(n - 1) / 10);
    std::vector<at::Tensor> targets;
    for (std::int64_t first = 0; first < n_windows; first += 4) {
      const Batch batch = sequential_batch(tokens, first, 4, 10);
      EXPECT_EQ(batch.inputs.size(0), std::min<std::int64_t>(4, n_windows - first));
      EXPECT_TRUE(at::equal(batch.targets, batch.inputs + 1));
      targets.push_back(batch.targets.flatten());
    }
    EXPECT_TRUE(at::equal(at::cat(targets), torch::arange(1, 10 * n_windows + 1)));
  }
}

TEST(BatchesTest, RefusesTooFewTokens) {
  const TokenSource tokens = make_positions(10);
  EXPECT_THROW_WITH(random_batch(tokens, 1, 10, {}),
                    "T = 10 need at least 11 tokens, the data have 10");
  EXPECT_THROW_WITH(sequential_batch(tokens, 0, 1, 10), "need at least 11 tokens");
  EXPECT_THROW_WITH(sequential_batch(tokens, 3, 1, 3), "window 3 asked for, there are 3");
  EXPECT_THROW_WITH(random_batch(tokens, 0, 5, {}), "expected B > 0 and T > 0");
  EXPECT_THROW_WITH(random_batch(tokens, int64_t{1} << 50, 5, {}), "memory");
  EXPECT_EQ(sequential_batch(tokens, 1, INT64_MAX, 3).inputs.size(0), 2);
  EXPECT_EQ(count_windows(tokens, 10), 0);
  EXPECT_THROW_WITH(count_windows(tokens, 0), "expected T > 0");
}

}  // namespace
}  // namespace rev::data
