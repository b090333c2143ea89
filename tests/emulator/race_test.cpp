// What the race finder reports of kernels.
#include <gtest/gtest.h>

#include "emulator/message_of.h"

namespace rev::emulator {
namespace {

TEST(RaceTest, NamesBothLines) {
  const std::string message = message_of(shuffle_taken_for_a_barrier);
  const auto line = [&](std::size_t from) {
    const std::size_t at = message.find("kernels.cu:", from);
    EXPECT_NE(at, std::string::npos) << message;
    return std::stoi(message.substr(at + 11));
  };
  // The read is two lines below the write.
  EXPECT_EQ(line(0), line(message.find("; before")) + 2) << message;
}

TEST(RaceTest, SharedMemory) {
  // The first warp to run reads what the other has yet to write.
  expect_message(shared_memory_without_a_barrier, " shared memory", "kernels.cu:");
  expect_message(shared_memory_used_again_without_a_barrier, "race: ", " of shared memory");
}

TEST(RaceTest, ShufflesOrderNothing) {
  expect_message(shuffle_taken_for_a_barrier, "race: ", " of shared memory");
}

TEST(RaceTest, WarpBarriersOrderTheirMaskAlone) {
  expect_message(warp_barrier_of_half_the_warp, " of shared memory");
  expect_message(warp_barrier_between_warps, " of shared memory");
}

TEST(RaceTest, WritesOfOneNumber) {
  expect_message(all_threads_write_one_number, "race: write after write of global memory");
}

TEST(RaceTest, BlocksAreNotOrdered) {
  expect_message(block_reads_what_another_wrote, "race: ", "of global memory", "of another block");
  expect_message(block_writes_what_another_read, "race: ", "of global memory", "of another block");
}

TEST(RaceTest, PlainReadsBesideAtomics) {
  expect_message(plain_read_beside_atomics, "race: ", "of global memory");
}

TEST(RaceTest, SharedMemoryThatTheBlockNeverWrote) {
  expect_message(shared_memory_that_nobody_wrote,
                 "read of shared memory that this block never wrote, ", "thread (9,0,0)");
  expect_message(shared_memory_of_the_block_before,
                 "read of shared memory that this block never wrote, ", "kernels.cu:");
}

}  // namespace
}  // namespace rev::emulator
