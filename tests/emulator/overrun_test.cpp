// What AddressSanitizer and UndefinedBehaviorSanitizer report of kernels.
#include <gtest/gtest.h>
#include <vector>

#include "emulator/kernels.h"

namespace rev::emulator {
namespace {

// Either of the two sanitizers sees it first.
constexpr char kSharedMemory[] = "global-buffer-overflow|insufficient space for an object";

// Expects the kernel to stop the program with a report that matches.
void expect_report(void (*launch)(int*), const char* report) {
  ::testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_DEATH(
      {
        const std::vector<int> x(kThreads);
        launch(const_cast<int*>(x.data()));
      },
      report);
}

TEST(OverrunDeathTest, GlobalMemory) {
  expect_report(read_beyond_global_memory, "heap-buffer-overflow");
  expect_report(write_before_global_memory, "heap-buffer-overflow");
}

TEST(OverrunDeathTest, StaticSharedMemory) {
  expect_report(write_beyond_static_shared_memory, kSharedMemory);
}

TEST(OverrunDeathTest, SharedMemoryOfATemplate) {
  expect_report(read_beyond_shared_memory_of_a_template, kSharedMemory);
}

TEST(OverrunDeathTest, DynamicSharedMemory) {
  expect_report(write_beyond_dynamic_shared_memory, "heap-buffer-overflow");
}

TEST(OverrunDeathTest, MisalignedVectors) {
  expect_report(misaligned_vector, "misaligned address");
}

}  // namespace
}  // namespace rev::emulator
