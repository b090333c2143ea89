// What the library promises, as a user meets it: the memory policy does not change one bit of the
// trained weights.
#include <fstream>
#include <nlohmann/json.hpp>
#include <tuple>

#include "rev/io/safetensors.h"
#include "train/program.h"

namespace rev::train {
namespace {

// Every line's drift; -1 where a line has none.
std::vector<int64_t> drifts(const std::filesystem::path& metrics) {
  std::vector<int64_t> all;
  std::ifstream file(metrics);
  for (std::string line; std::getline(file, line);) {
    all.push_back(nlohmann::json::parse(line).value("drift", int64_t{-1}));
  }
  return all;
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
  void expect_same(size_t steps, const Arguments& options,
                   const std::vector<std::string>& policies) {
    const Arguments with_steps = options + Arguments{"--steps", std::to_string(steps)};
    std::string first;
    for (const std::string& memory : policies) {
      const std::string bytes =
          weights(memory, tiny(memory, with_steps + Arguments{"--memory", memory}));
      EXPECT_EQ(drifts(path(memory) / "metrics.jsonl"), std::vector<int64_t>(steps)) << memory;
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
    expect_same(5, options, {"store", "checkpoint"});
  } else {
    expect_same(5, options, {"store", "checkpoint", "invert"});
  }
}

INSTANTIATE_TEST_SUITE_P(Schemes, SameBitsTest,
                         ::testing::Combine(::testing::Values("residual", "midpoint", "midpoint-a",
                                                              "leapfrog", "hamiltonian", "revffn",
                                                              "retrofit"),
                                            ::testing::Values("float32", "bfloat16"),
                                            ::testing::Values("0", "0.1"), ::testing::Bool()),
                         name_of);

class GrownRevFFNTest : public SameBitsTest {
 protected:
  // 40 steps at that learning rate, whatever is kept.
  void expect_same_after(const std::string& lr) {
    const auto [scheme, dtype, dropout, bias] = GetParam();
    expect_same(40,
                {"--scheme", scheme, "--dtype", dtype, "--dropout", dropout,
                 bias ? "--bias" : "--no-bias", "--clip", "0", "--lr", lr},
                {"store", "checkpoint", "invert"});
    gave_up_ = support::read_bytes(path("log")).find("it is checkpointed from now on") !=
               std::string::npos;
  }
  // The norm of the attention's and the MLP's way back into the streams.
  double p_down(const std::string& out, int layer) {
    const auto tensors = io::load_safetensors(path(out) / "model.safetensors");
    const auto name = "transformer.h." + std::to_string(layer) + ".p_down.weight";
    return tensors.at(name).norm().item<double>();
  }

  bool gave_up_ = false;
};

// A learning rate under which the attention grows and stays a contraction.
TEST_P(GrownRevFFNTest, GrownLayersAreStillInverted) {
  ASSERT_NO_FATAL_FAILURE(expect_same_after("0.01"));
  EXPECT_FALSE(gave_up_);
  weights("new", tiny("new", {"--scheme", "revffn", "--steps", "1", "--lr", "0", "--min-lr", "0"}));
  for (int layer = 0; layer < 3; ++layer) {
    EXPECT_GT(p_down("invert", layer), 3 * p_down("new", layer)) << layer;
  }
}

// One that soon drives the attention out of contraction, so that layers are given up on, one step
// after the other, while the run goes on.
TEST_P(GrownRevFFNTest, LayersThatCannotBeInvertedAreKeptAndNothingIsLost) {
  ASSERT_NO_FATAL_FAILURE(expect_same_after("0.1"));
  EXPECT_TRUE(gave_up_);
}

INSTANTIATE_TEST_SUITE_P(Schemes, GrownRevFFNTest,
                         ::testing::Combine(::testing::Values("revffn"),
                                            ::testing::Values("float32", "bfloat16"),
                                            ::testing::Values("0", "0.1"), ::testing::Bool()),
                         name_of);

using SameBitsPlainTest = RevGpt2Test;

TEST_F(SameBitsPlainTest, AccumulatedMicroBatchesWhateverIsKept) {
  const Arguments options = {"--accumulate", "3", "--dropout", "0.1"};
  EXPECT_TRUE(weights("a", tiny("a", options + Arguments{"--memory", "invert"})) ==
              weights("b", tiny("b", options + Arguments{"--memory", "store"})));
}

TEST_F(SameBitsPlainTest, WeightsOfMidpointAAndHamiltonianAreThoseThatAreGiven) {
  const Arguments midpoint_a = {"--scheme", "midpoint-a", "--h", "1"};
  const std::string ones = weights("a", tiny("a", midpoint_a + Arguments{"--a", "1", "1", "1"}));
  EXPECT_TRUE(ones == weights("b", tiny("b", {"--h", "0.5"})));  // eq 15 with a = 1 is eq 4
  EXPECT_FALSE(ones == weights("c", tiny("c", midpoint_a + Arguments{"--a", "1", "1", "-0.5"})));
  const Arguments hamiltonian = {"--scheme", "hamiltonian"};
  const std::string plain = weights("d", tiny("d", hamiltonian));
  EXPECT_TRUE(plain == weights("e", tiny("e", hamiltonian + Arguments{"--a", "1"})));
  EXPECT_FALSE(plain == weights("f", tiny("f", hamiltonian + Arguments{"--a", "1.25"})));
}

TEST_F(SameBitsPlainTest, PairsOfReciprocalsAreOtherWeights) {
  const Arguments midpoint_a = {"--scheme", "midpoint-a"};
  const std::string drawn = weights("a", tiny("a", midpoint_a));
  EXPECT_FALSE(drawn == weights("b", tiny("b", midpoint_a + Arguments{"--a-pairs"})));
}

TEST_F(SameBitsPlainTest, LowBitsChangeNoWeight) {
  const Arguments revffn = {"--scheme", "revffn"};
  const std::string two = weights("a", tiny("a", revffn));
  EXPECT_TRUE(two == weights("b", tiny("b", revffn + Arguments{"--low-bits", "8"})));
  // So a run may go on with others.
  EXPECT_EQ(run({"train", "--out", path("b").string(), "--resume", "--low-bits", "4"}).code, 0);
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
