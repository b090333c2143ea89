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

  // {of the validation data, of its bigrams}, nats a token.
  static std::vector<double> final_losses(const std::string& text) {
    return numbers(text, R"(validation loss ([0-9.]+) nats a token )"
                         R"(\(unigram entropy [0-9.]+, bigram ([0-9.]+)\))");
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
  const auto losses = final_losses(result.output);
  EXPECT_LT(losses.at(0), losses.at(1));  // 0.1 to 0.25 by the seed, against 0.88
}

// README's first command: no option but the folder, then a sample.
TEST_F(LearningTest, TheDefaultRunLearnsMoreThanPairsOfBytesTell) {
#if !defined(NDEBUG) || defined(__SANITIZE_ADDRESS__)
  GTEST_SKIP() << "minutes in a build that is not for speed";
#endif
  const Result trained = run({"train", "--out", path("run").string()});
  ASSERT_EQ(trained.code, 0) << trained.output;
  const auto losses = final_losses(trained.output);
  EXPECT_LT(losses.at(0), losses.at(1));  // 1.9 against 2.8
  const Result sampled = run({"sample", "--model", path("run").string()});
  EXPECT_EQ(sampled.code, 0) << sampled.output;
  EXPECT_GT(sampled.output.size(), 100u);
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
