// Generators, autocast and memory as values.
#include <ATen/autocast_mode.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "rev/base/autocast_state.h"
#include "rev/base/memory_stats.h"
#include "rev/base/rng_state.h"

namespace rev::base {
namespace {

TEST(RngStateTest, RestoreRepeatsTheDraws) {
  torch::manual_seed(3);
  const RngState state = RngState::capture(at::kCPU);
  const at::Tensor first = torch::randn({100});
  torch::randn({7});
  state.restore();
  EXPECT_TRUE(at::equal(torch::randn({100}), first));
}

TEST(RngStateTest, SharesMemoryWhereNothingWasDrawn) {
  const RngState first = RngState::capture(at::kCPU);
  EXPECT_GT(first.own_bytes(), 0);
  EXPECT_EQ(RngState::capture(at::kCPU, first).own_bytes(), 0);
  torch::randn({1});
  EXPECT_EQ(RngState::capture(at::kCPU, first).own_bytes(), first.own_bytes());
}

TEST(RngStateTest, GuardLeavesTheGeneratorAsItWas) {
  torch::manual_seed(4);
  const at::Tensor expected = torch::randn({5});
  torch::manual_seed(4);
  {
    const RngGuard guard(at::kCPU);
    torch::manual_seed(99);
    torch::randn({5});
  }
  EXPECT_TRUE(at::equal(torch::randn({5}), expected));
}

TEST(AutocastStateTest, GuardAppliesAndPutsBack) {
  ASSERT_FALSE(at::autocast::is_autocast_enabled(at::kCPU));
  const bool cache = at::autocast::is_autocast_cache_enabled();
  {
    const AutocastGuard guard({at::kCPU, true, at::kBFloat16});
    EXPECT_TRUE(at::autocast::is_autocast_enabled(at::kCPU));
    EXPECT_FALSE(at::autocast::is_autocast_cache_enabled());
    EXPECT_EQ(torch::mm(torch::ones({2, 2}), torch::ones({2, 2})).scalar_type(), at::kBFloat16);
  }
  EXPECT_FALSE(at::autocast::is_autocast_enabled(at::kCPU));
  EXPECT_EQ(at::autocast::is_autocast_cache_enabled(), cache);
}

TEST(MemoryStatsTest, CountsWhatLivesAndItsPeak) {
  count_memory();
  const int64_t before = memory_stats().live_bytes;
  reset_peak_memory();
  {
    const at::Tensor a = torch::empty({1 << 20}, at::kByte);
    { const at::Tensor b = torch::empty({1 << 20}, at::kByte); }
    EXPECT_GE(memory_stats().live_bytes - before, 1 << 20);
    EXPECT_LT(memory_stats().live_bytes - before, 2 << 20);
  }
  EXPECT_EQ(memory_stats().live_bytes, before);
  EXPECT_GE(memory_stats().peak_bytes - before, 2 << 20);
  EXPECT_LT(memory_stats().peak_bytes - before, (2 << 20) + (1 << 14));  // page rounding
}

}  // namespace
}  // namespace rev::base
