#include "rev/train/metrics.h"

#include <filesystem>
#include <gtest/gtest.h>
#include <string>
#include <vector>

#include "support/temp_folder.h"
#include "support/throws.h"

namespace rev::train {
namespace {

StepMetrics of_step(int64_t step) {
  StepMetrics m;
  m.step = step;
  m.loss = 0.5;
  return m;
}

std::string line(int64_t step) { return "{\"step\":" + std::to_string(step) + ",\"drift\":0}\n"; }

TEST(MetricsTest, WritesOneObjectALine) {
  support::TempFolder folder;
  {
    MetricsFile file(folder / "m.jsonl");
    file.write(of_step(1));
    StepMetrics m = of_step(2);
    m.valid_loss = 0.25;
    file.write(m);
  }
  const std::string rest =
      ",\"lr\":0.0,\"grad_norm\":0.0,\"tokens_per_s\":0.0,\"peak_mib\":0.0,\"drift\":0";
  EXPECT_EQ(support::read_bytes(folder / "m.jsonl"), "{\"step\":1,\"loss\":0.5" + rest +
                                                         "}\n{\"step\":2,\"loss\":0.5" + rest +
                                                         ",\"valid_loss\":0.25}\n");
}

TEST(MetricsTest, GoesOnAfterAStepAndForgetsLaterOnesAndACutLine) {
  support::TempFolder folder;
  const auto forget_after = [&](int64_t done) {
    MetricsFile(folder / "m.jsonl").forget_after(done);
    return support::read_bytes(folder / "m.jsonl");
  };
  support::write_bytes(folder / "m.jsonl", line(1) + line(2) + line(3) + "{\"st");
  EXPECT_EQ(forget_after(2), line(1) + line(2));
  EXPECT_EQ(forget_after(7), line(1) + line(2));
  EXPECT_EQ(forget_after(0), "");
  for (const char* cut : {"{", "{\"step\":", "{\"step\":12,\"lo"}) {
    support::write_bytes(folder / "m.jsonl", cut);
    EXPECT_EQ(forget_after(7), "");
  }
  support::write_bytes(folder / "m.jsonl", line(1) + line(2));
  {
    MetricsFile file(folder / "m.jsonl");
    file.forget_after(1);
    file.write(of_step(2));
  }
  const std::string text = support::read_bytes(folder / "m.jsonl");
  EXPECT_EQ(text.rfind(line(1) + "{\"step\":2,\"loss\":0.5", 0), 0u) << text;
}

TEST(MetricsTest, RefusesAFileOfAnotherKindAndLeavesItAsItIs) {
  support::TempFolder folder;
  const std::vector<std::string> others = {
      "Notes\n", "notes",  "\n{\"step\":1,\"drift\":0}\n",  "{}\n", "{\"step\":1}\n",
      "[1]\n",   "\xff\n", "{\"step\":\"1\",\"drift\":0}\n"};
  for (const std::string& text : others) {
    support::write_bytes(folder / "notes.txt", text);
    EXPECT_THROW_WITH(MetricsFile(folder / "notes.txt"),
                      "notes.txt: expected the metrics of a run, got a first line \"");
    EXPECT_EQ(support::read_bytes(folder / "notes.txt"), text);
  }
  support::write_bytes(folder / "notes.txt", std::string("Notes\n") + line(1));
  EXPECT_THROW_WITH(MetricsFile(folder / "notes.txt"), "got a first line \"Notes\"");
}

TEST(MetricsTest, RefusesAFileThatCannotBeWritten) {
  support::TempFolder folder;
  EXPECT_THROW_WITH(MetricsFile(folder / "none/m.jsonl"), "m.jsonl: cannot be written");
  EXPECT_FALSE(std::filesystem::exists(folder / "none"));
}

TEST(MetricsTest, AFileThatGotNoLineIsNotLeftBehind) {
  support::TempFolder folder;
  {
    const MetricsFile file(folder / "m.jsonl");
    EXPECT_TRUE(std::filesystem::exists(folder / "m.jsonl"));
  }
  EXPECT_FALSE(std::filesystem::exists(folder / "m.jsonl"));
  support::write_bytes(folder / "m.jsonl", "");
  { const MetricsFile file(folder / "m.jsonl"); }
  EXPECT_TRUE(std::filesystem::exists(folder / "m.jsonl"));
}

}  // namespace
}  // namespace rev::train
