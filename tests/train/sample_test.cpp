#include "train/program.h"

namespace rev::train {
namespace {

using SampleTest = RevGpt2Test;

TEST_F(SampleTest, PrintsThePromptAndBytesOfTheModelsOwn) {
  weights("run", tiny("run", {"--steps", "60"}));
  const Arguments sample = {"sample",   "--model", path("run").string(), "--prompt", "the ",
                            "--tokens", "20"};
  const Result first = run(sample);
  EXPECT_EQ(first.code, 0) << first.output;
  EXPECT_EQ(first.output.size(), 4u + 20u + 1u);
  EXPECT_EQ(first.output.substr(0, 4), "the ");
  EXPECT_EQ(run(sample).output, first.output);
  EXPECT_NE(run(sample + Arguments{"--seed", "1"}).output, first.output);
  EXPECT_EQ(run(sample + Arguments{"--temperature", "0"}).output,
            run(sample + Arguments{"--top-k", "1"}).output);
}

TEST_F(SampleTest, PrintsNumbersOfTokensThatAreNotBytes) {
  std::string shard;
  for (int i = 0; i < 4000; ++i) shard += std::string{static_cast<char>(i % 7 + 1), '\1'};
  support::write_bytes(path("shard.bin"), shard);
  weights("run", tiny("run", {"--data", path("shard.bin").string(), "--vocab", "300"}));
  const Result result =
      run({"sample", "--model", path("run").string(), "--prompt", "257 258", "--tokens", "4"});
  EXPECT_EQ(result.code, 0) << result.output;
  EXPECT_EQ(std::count(result.output.begin(), result.output.end(), ' '), 3) << result.output;
  const Result refused = run({"sample", "--model", path("run").string(), "--prompt", "the grid"});
  EXPECT_EQ(refused.code, 2);
  EXPECT_NE(refused.output.find("the model's tokens are not bytes"), std::string::npos);
}

TEST_F(SampleTest, Float64RunsAndSamples) {
  weights("run", tiny("run", {"--state", "float64"}));
  const Result result = run({"sample", "--model", path("run").string(), "--tokens", "3"});
  EXPECT_EQ(result.code, 0) << result.output;
}

}  // namespace
}  // namespace rev::train
