// What the emulator reports in every program, and what it lets pass.
#include <algorithm>
#include <functional>
#include <gtest/gtest.h>
#include <numeric>
#include <vector>

#include "emulator/kernels.h"
#include "emulator/launch.h"
#include "emulator/message_of.h"

namespace rev::emulator {
namespace {

TEST(EmulatorTest, NamesBarriersAtDifferentPlaces) {
  expect_message(barriers_in_two_branches, "threads wait for each other", "waiting at a barrier, ",
                 "kernels.cu:", "block (0,0,0)");
}

TEST(EmulatorTest, NamesThreadsThatReturnBeforeABarrier) {
  expect_message(return_before_a_barrier, "waiting at a barrier, ", "which has returned");
}

TEST(EmulatorTest, NamesLanesThatReturnBeforeAShuffle) {
  expect_message(return_before_a_shuffle, "waiting for its warp, ",
                 "kernels.cu:", "thread (5,0,0) which has returned");
}

TEST(EmulatorTest, NamesLanesAtABarrierOfTheBlockThatTheirWarpWaitsFor) {
  expect_message(warp_barrier_beside_block_barrier, "waiting for its warp, ",
                 "thread (3,0,0) waiting at a barrier, ");
}

TEST(EmulatorTest, NamesMasksThatDoNotFit) {
  expect_message(mask_without_the_caller, "the mask fffffffe is without the caller's lane 0, ",
                 "kernels.cu:");
  expect_message(mask_of_missing_lanes,
                 "the mask ffffffff names lanes that the block does not "
                 "have, ",
                 "kernels.cu:");
}

TEST(EmulatorTest, NamesShufflesFromLanesOutsideTheMask) {
  expect_message(shuffle_from_outside_the_mask,
                 "shuffles from lane 20, which is not in the mask 0000ffff, ", "kernels.cu:");
}

TEST(EmulatorTest, NamesTwoPlacesWhereAMaskMeets) {
  expect_message(one_mask_at_two_places, "lanes of the mask ffffffff meet at different places, ",
                 "kernels.cu:");
}

TEST(EmulatorTest, RefusesLaunchesWithinKernels) {
  expect_message(launch_within_a_kernel, "a launch from within a kernel");
}

TEST(EmulatorTest, RefusesSizesThatAGpuRefuses) {
  const auto message = [](unsigned blocks, unsigned threads, unsigned shared_bytes) {
    std::vector<int> x(kThreads);
    try {
      launch_of_size(x.data(), blocks, threads, shared_bytes);
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  EXPECT_EQ(message(1, 0, 0), "a block of 0 x 1 x 1 threads: a GPU takes 1 to 1024, z up to 64");
  EXPECT_EQ(message(1, 1025, 0),
            "a block of 1025 x 1 x 1 threads: a GPU takes 1 to 1024, z up to 64");
  EXPECT_PRED_FORMAT2(::testing::IsSubstring, "a grid of 0 x 1 x 1 blocks", message(0, 32, 0));
  EXPECT_PRED_FORMAT2(::testing::IsSubstring, "a GPU has 227 KiB", message(1, 32, (227 << 10) + 1));
  EXPECT_EQ(message(1, kThreads, 227 << 10), "");
}

TEST(EmulatorTest, RefusesMuchSharedMemoryThatWasNotAskedFor) {
  cudaLaunchConfig_t config{};
  config.gridDim = config.blockDim = dim3(1);
  config.dynamicSmemBytes = (48 << 10) + 1;
  const auto nothing = [](const void*) {};
  EXPECT_THROW(run(config, &config, nothing, nullptr, 0), Error);
  config.dynamicSmemBytes = 48 << 10;
  run(config, &config, nothing, nullptr, 0);
}

TEST(EmulatorTest, GoesOnAfterAMistake) {
  EXPECT_NE(message_of(return_before_a_barrier), "");
  std::vector<int> x(kThreads);
  count_by_atomics(x.data(), 3);
  EXPECT_EQ(x, std::vector<int>(kThreads, 3));
}

// What a kernel makes of kThreads zeros, the same in every schedule.
std::vector<int> result_of(const std::function<void(int*)>& launch) {
  std::vector<int> first;
  for (unsigned schedule = 0; schedule < kSchedules; ++schedule) {
    choose_schedule(schedule);
    std::vector<int> x(kThreads);
    launch(x.data());
    if (schedule == 0) first = x;
    EXPECT_EQ(x, first) << schedule;
  }
  choose_schedule(0);
  return first;
}

std::vector<int> numbers(const std::function<int(int)>& of) {
  std::vector<int> x(kThreads);
  for (int i = 0; i < kThreads; ++i) x[static_cast<std::size_t>(i)] = of(i);
  return x;
}

TEST(EmulatorTest, RunsKernelsWithoutMistakes) {
  const auto ones = numbers([](int) { return 1; });
  EXPECT_EQ(result_of(through_dynamic_shared_memory), numbers([](int i) { return i + 1; }));
  EXPECT_EQ(result_of([](int* x) { count_by_atomics(x, 5); }), numbers([](int) { return 5; }));
  EXPECT_EQ(result_of(halves_of_warps), numbers([](int i) { return i % 32 < 16 ? i ^ 1 : i ^ 2; }));
  EXPECT_EQ(result_of(masks_that_overlap), ones);
  EXPECT_EQ(result_of(exchange_within_warps), numbers([](int i) { return i ^ 1; }));
  EXPECT_EQ(result_of(three_dimensions), ones);
}

TEST(EmulatorTest, LimitsBlocks) {
  limit_blocks(2);
  EXPECT_EQ(result_of([](int* x) { count_by_atomics(x, 5); }), numbers([](int) { return 2; }));
  limit_blocks(0);
  EXPECT_EQ(result_of([](int* x) { count_by_atomics(x, 5); }), numbers([](int) { return 5; }));
}

TEST(EmulatorTest, ExchangesAsCudaSays) {
  for (unsigned schedule = 0; schedule < kSchedules; ++schedule) {
    choose_schedule(schedule);
    std::vector<uint32_t> x(kThreads * kExchanges);
    exchanges(x.data());
    for (uint32_t i = 0; i < kThreads; ++i) {
      const uint32_t lane = i % 32, warp = i / 32 * 32;
      const uint32_t sum = 496 + 32 * warp;  // of the warp's numbers
      const uint32_t least = warp == 0 ? 0u - 20u : 12u, greatest = warp == 0 ? 11u : 43u;
      const uint32_t want[kExchanges] = {
          warp + 3,
          i / 8 * 8 + 3,
          lane < 2 ? i : i - 2,
          i % 8 < 2 ? i : i - 2,
          lane == 31 ? i : i + 1,
          i % 16 > 12 ? i : i + 3,
          i ^ 5u,
          (i % 32 ^ 12u) <= i % 32 / 8 * 8 + 7 ? i ^ 12u : i,  // never beyond the section's end
          0x49249249u,
          warp == 32 ? 1u : 0u,
          warp == 32 ? 0u : 1u,
          sum,
          least,
          greatest,
          warp == 0 ? 0u : 12u,
          (64u | warp) + (warp + 31) + 0u,
          7,
          1,
          0,
          i ^ 1u};
      for (int n = 0; n < kExchanges; ++n) {
        EXPECT_EQ(x[static_cast<std::size_t>(kThreads * n) + i], want[n]) << n << ", thread " << i;
      }
    }
  }
  choose_schedule(0);
}

}  // namespace
}  // namespace rev::emulator
