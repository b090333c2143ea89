#include "rev/optim/schedule.h"

#include <gtest/gtest.h>

namespace rev::optim {
namespace {

TEST(ScheduleTest, RisesLinearlyThenFallsAlongHalfACosine) {
  const Schedule schedule{1.0, 0.1, 10, 110};
  EXPECT_DOUBLE_EQ(schedule(0), 0.1);
  EXPECT_DOUBLE_EQ(schedule(4), 0.5);
  EXPECT_DOUBLE_EQ(schedule(9), 1.0);
  EXPECT_DOUBLE_EQ(schedule(10), 1.0);
  EXPECT_DOUBLE_EQ(schedule(60), 0.55);  // half way: the mean of the ends
  EXPECT_DOUBLE_EQ(schedule(110), 0.1);
  EXPECT_DOUBLE_EQ(schedule(100000), 0.1);
  for (int64_t step = 10; step < 110; ++step) EXPECT_GT(schedule(step), schedule(step + 1));
}

TEST(ScheduleTest, NeedsNoWarmUp) {
  EXPECT_DOUBLE_EQ((Schedule{1.0, 0.0, 0, 10}(0)), 1.0);
  EXPECT_DOUBLE_EQ((Schedule{1.0, 0.0, 0, 10}(5)), 0.5);
}

}  // namespace
}  // namespace rev::optim
