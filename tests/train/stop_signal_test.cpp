#include "rev/train/stop_signal.h"

#include <csignal>
#include <gtest/gtest.h>

namespace rev::train {
namespace {

TEST(StopSignalTest, NotesTheFirstSignalOfEither) {
  for (const int signal : {SIGINT, SIGTERM}) {
    const StopSignal stop;
    EXPECT_FALSE(stop.requested());
    std::raise(signal);
    EXPECT_TRUE(stop.requested());
  }
}

TEST(StopSignalDeathTest, TheSecondEndsTheProcess) {
  EXPECT_EXIT(
      {
        const StopSignal stop;
        std::raise(SIGTERM);
        std::raise(SIGTERM);
      },
      ::testing::KilledBySignal(SIGTERM), "");
}

}  // namespace
}  // namespace rev::train
