#include "rev/train/progress.h"

#include <cstdlib>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/ioctl.h>
#include <unistd.h>

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

TEST(ProgressTest, RewritesOneLineOfATerminalCutToItsWidth) {
  const int master = ::posix_openpt(O_RDWR | O_NOCTTY);
  ASSERT_TRUE(master >= 0 && ::grantpt(master) == 0 && ::unlockpt(master) == 0);
  std::FILE* terminal = std::fopen(::ptsname(master), "w");
  ASSERT_NE(terminal, nullptr);
  const winsize size{.ws_row = 5, .ws_col = 9, .ws_xpixel = 0, .ws_ypixel = 0};
  ASSERT_EQ(::ioctl(master, TIOCSWINSZ, &size), 0);
  {
    Progress progress(terminal);
    progress.update("step 1 of many");
    progress.say("warning");
    ::usleep(150000);  // it is shown ten times a second at most
    progress.update("step 2");
  }
  std::fclose(terminal);
  std::string shown;  // in pieces; the end of a terminal is an error
  char piece[200];
  for (ssize_t n; (n = ::read(master, piece, sizeof piece)) > 0;) {
    shown.append(piece, static_cast<size_t>(n));
  }
  EXPECT_EQ(shown, "step 1 o\r\033[Kwarning\r\nstep 2\r\n");
  ::close(master);
}

TEST(ProgressTest, SaysDurationsAsAPersonWould) {
  EXPECT_EQ(duration(0.4), "0 s");
  EXPECT_EQ(duration(59.6), "1 min 00 s");
  EXPECT_EQ(duration(185), "3 min 05 s");
  EXPECT_EQ(duration(7800), "2 h 10 min");
}

}  // namespace
}  // namespace rev::train
