#include "rev/train/metrics.h"

#include <gtest/gtest.h>
#include <string>

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

TEST(MetricsTest, WritesOneObjectALine) {
  support::TempFolder folder;
  {
    MetricsFile file(folder / "m.jsonl", 0);
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
  const auto lines = [](const char* text) { return std::string(text); };
  support::write_bytes(folder / "m.jsonl",
                       lines("{\"step\":1}\n{\"step\":2}\n{\"step\":3}\n{\"st"));
  { const MetricsFile file(folder / "m.jsonl", 2); }
  EXPECT_EQ(support::read_bytes(folder / "m.jsonl"), "{\"step\":1}\n{\"step\":2}\n");
  { const MetricsFile file(folder / "m.jsonl", 7); }
  EXPECT_EQ(support::read_bytes(folder / "m.jsonl"), "{\"step\":1}\n{\"step\":2}\n");
  { const MetricsFile file(folder / "m.jsonl", 0); }
  EXPECT_EQ(support::read_bytes(folder / "m.jsonl"), "");
}

TEST(MetricsTest, RefusesAFileThatCannotBeWritten) {
  support::TempFolder folder;
  EXPECT_THROW_WITH(MetricsFile(folder / "none/m.jsonl", 0), "m.jsonl: cannot be written");
}

}  // namespace
}  // namespace rev::train
