// What the library promises, as a user meets it: the memory policy does not change one bit of the
// trained weights.
#include <fstream>
#include <nlohmann/json.hpp>
#include <tuple>

#include "train/program.h"

namespace rev::train {
namespace {

// Every line's drift, summed; -1 where a line has none.
int64_t drift(const std::filesystem::path& metrics) {
  int64_t sum = 0;
  std::ifstream file(metrics);
  for (std::string line; std::getline(file, line);) {
    const int64_t rows = nlohmann::json::parse(line).value("drift", int64_t{-1});
    if (rows < 0) return -1;
    sum += rows;
  }
  return sum;
}

using Case = std::tuple<const char*, const char*, const char*, bool>;

std::string name_of(const ::testing::TestParamInfo<Case>& info) {
  const auto [scheme, dtype, dropout, bias] = info.param;
  std::string name = std::string(scheme) + "_" + dtype + "_" +
                     (std::string(dropout) == "0" ? "" : "dropout_") + (bias ? "bias" : "no_bias");
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}

class SameBitsTest : public RevGpt2Test, public ::testing::WithParamInterface<Case> {
 protected:
  void expect_same(const Arguments& options, const std::vector<std::string>& policies) {
    std::string first;
    for (const std::string& memory : policies) {
      const std::string bytes =
          weights(memory, tiny(memory, options + Arguments{"--memory", memory}));
      EXPECT_EQ(drift(path(memory) / "metrics.jsonl"), 0) << memory;
      if (first.empty()) first = bytes;
      EXPECT_TRUE(bytes == first) << memory << " differs from " << policies[0];
    }
    EXPECT_FALSE(first.empty());
  }
};

TEST_P(SameBitsTest, WhateverIsKept) {
  const auto [scheme, dtype, dropout, bias] = GetParam();
  const Arguments options = {
      "--scheme", scheme, "--dtype", dtype, "--dropout", dropout, bias ? "--bias" : "--no-bias"};
  if (std::string(scheme) == "residual") {
    expect_same(options, {"store", "checkpoint"});
  } else {
    expect_same(options, {"store", "checkpoint", "invert"});
  }
}

INSTANTIATE_TEST_SUITE_P(Schemes, SameBitsTest,
                         ::testing::Combine(::testing::Values("residual", "midpoint", "midpoint-a",
                                                              "leapfrog", "hamiltonian", "revffn"),
                                            ::testing::Values("float32", "bfloat16"),
                                            ::testing::Values("0", "0.1"), ::testing::Bool()),
                         name_of);

class GrownRevFFNTest : public SameBitsTest {};

// A learning rate that soon drives the attention out of contraction, so that layers are given up
// on, one step after the other, while the run goes on.
TEST_P(GrownRevFFNTest, LayersThatCannotBeInvertedAreKeptAndNothingIsLost) {
  const auto [scheme, dtype, dropout, bias] = GetParam();
  expect_same({"--scheme", scheme, "--dtype", dtype, "--dropout", dropout, "--lr", "0.1", "--steps",
               "40", "--clip", "0"},
              {"store", "invert"});
  EXPECT_NE(support::read_bytes(path("log")).find("it is checkpointed from now on"),
            std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(Schemes, GrownRevFFNTest,
                         ::testing::Combine(::testing::Values("revffn"),
                                            ::testing::Values("float32", "bfloat16"),
                                            ::testing::Values("0", "0.1"), ::testing::Values(true)),
                         name_of);

using SameBitsPlainTest = RevGpt2Test;

TEST_F(SameBitsPlainTest, AccumulatedMicroBatchesWhateverIsKept) {
  const Arguments options = {"--accumulate", "3", "--dropout", "0.1"};
  EXPECT_TRUE(weights("a", tiny("a", options + Arguments{"--memory", "invert"})) ==
              weights("b", tiny("b", options + Arguments{"--memory", "store"})));
}

TEST_F(SameBitsPlainTest, TheSameRunTwiceAndAnotherSeedNot) {
  const std::string first = weights("a", tiny("a"));
  EXPECT_TRUE(weights("b", tiny("b")) == first);
  EXPECT_FALSE(weights("c", tiny("c", {"--seed", "1"})) == first);
}

TEST_F(SameBitsPlainTest, ValidationAndSavingChangeNothing) {
  const std::string first = weights("a", tiny("a", {"--dropout", "0.1"}));
  EXPECT_TRUE(weights("b", tiny("b", {"--dropout", "0.1", "--eval-every", "1", "--save-every",
                                      "2"})) == first);
}

}  // namespace
}  // namespace rev::train
