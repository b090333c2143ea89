// That training under the reversible scheme learns, and what a run says where it may not go well.
#include <regex>

#include "train/program.h"

namespace rev::train {
namespace {

class LearningTest : public RevGpt2Test {
 protected:
  // The numbers in the first part of `text` that looks like `pattern`; fails where none does.
  static std::vector<double> numbers(const std::string& text, const std::string& pattern) {
    std::smatch found;
    EXPECT_TRUE(std::regex_search(text, found, std::regex(pattern))) << text;
    std::vector<double> numbers;
    for (size_t i = 1; i < found.size(); ++i) numbers.push_back(std::stod(found[i]));
    return numbers;
  }
};

// One sentence again and again: many of its letters may be followed by several, as "a" by "i", "s"
// and "t", but what is further back tells which.
TEST_F(LearningTest, AMidpointModelLearnsMoreThanPairsOfBytesTell) {
  std::string text;
  while (text.size() < 20000) {
    text +=
        "the rain in spain stays mainly on the plain and then the train again strains in vain\n";
  }
  support::write_bytes(path("sentence.txt"), text);
  const Result result =
      run(tiny("run", {"--data", path("sentence.txt").string(), "--scheme", "midpoint",
                       "--channels", "32", "--seq", "32", "--batch", "8", "--steps", "200",
                       "--warmup", "20", "--eval-batches", "4"}));
  ASSERT_EQ(result.code, 0) << result.output;
  const auto losses = numbers(
      result.output,
      R"(validation loss ([0-9.]+) nats a token \(unigram entropy [0-9.]+, bigram ([0-9.]+)\))");
  ASSERT_EQ(losses.size(), 2u);
  EXPECT_LT(losses[0], losses[1]);  // 0.1 to 0.25 by the seed, against 0.88
}

TEST_F(LearningTest, WarnsOfLayersThatMayAmplifyWithTheirNumbers) {
  const Result result = run(tiny("run", {"--scheme", "midpoint", "--h", "8", "--eval-every", "1"}));
  ASSERT_EQ(result.code, 0) << result.output;
  const auto layer = numbers(
      result.output,
      R"(warning: step ([0-9]+): Jacobian norms with which midpoint may amplify from layer to )"
      R"(layer: layer ([0-9]+) has ([0-9.e+-]+), the limit is ([0-9.]+))");
  ASSERT_EQ(layer.size(), 4u);
  EXPECT_EQ(layer[0], 1);
  EXPECT_EQ(layer[3], 1.0 / 8);
  EXPECT_GT(layer[2], layer[3]);
}

}  // namespace
}  // namespace rev::train
