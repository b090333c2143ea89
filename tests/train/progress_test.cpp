#include "rev/train/progress.h"

#include <gtest/gtest.h>

#include "support/temp_folder.h"

namespace rev::train {
namespace {

TEST(ProgressTest, WritesPlainLinesNowAndThenWhereThereIsNoTerminal) {
  support::TempFolder folder;
  std::FILE* log = std::fopen((folder / "log").c_str(), "w");
  {
    Progress progress(log, /*interval=*/3600);
    progress.update("step 1");
    progress.update("step 2");  // too soon
    progress.say("warning");
  }
  {
    Progress progress(log, /*interval=*/0);
    progress.update("step 3");
    progress.update("step 4");
  }
  std::fclose(log);
  EXPECT_EQ(support::read_bytes(folder / "log"), "step 1\nwarning\nstep 3\nstep 4\n");
}

}  // namespace
}  // namespace rev::train
