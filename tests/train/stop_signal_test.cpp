#include "rev/train/stop_signal.h"

#include <csignal>
#include <gtest/gtest.h>

namespace rev::train {
namespace {

TEST(StopSignalTest, NotesTheFirstSignalOfEach) {
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGPIPE}) {
    const StopSignal stop;
    EXPECT_FALSE(stop.requested());
    std::raise(signal);
    EXPECT_TRUE(stop.requested());
  }
}

TEST(StopSignalTest, OutputThatIsGoneEndsNothingHoweverOftenItIsSaid) {
  const StopSignal stop;
  for (const int signal : {SIGHUP, SIGHUP, SIGPIPE, SIGPIPE}) std::raise(signal);
  EXPECT_TRUE(stop.requested());
}

TEST(StopSignalTest, WhatWasIgnoredStaysIgnored) {
  const auto before = std::signal(SIGHUP, SIG_IGN);
  {
    const StopSignal stop;
    std::raise(SIGHUP);
    EXPECT_FALSE(stop.requested());
  }
  EXPECT_EQ(std::signal(SIGHUP, before), SIG_IGN);
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
