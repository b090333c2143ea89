#include "rev/train/nearest_name.h"

#include <gtest/gtest.h>

namespace rev::train {
namespace {

TEST(NearestNameTest, CountsLettersAddedLeftOutReplacedAndExchanged) {
  const std::vector<std::string> known = {"--steps", "--seed", "--seq", "--state"};
  EXPECT_EQ(nearest_name("--step", known), "--steps");
  EXPECT_EQ(nearest_name("--stepss", known), "--steps");
  EXPECT_EQ(nearest_name("--sees", known), "--seed");
  EXPECT_EQ(nearest_name("--sqe", known), "--seq");
  EXPECT_EQ(nearest_name("--sate", known), "--state");
}

TEST(NearestNameTest, SuggestsNothingThatIsFar) {
  const std::vector<std::string> known = {"--steps", "--seed"};
  EXPECT_EQ(nearest_name("--xyzzy", known), "");
  EXPECT_EQ(nearest_name("", {"first", "other"}), "");
  EXPECT_EQ(nearest_name("--steps", {}), "");
  EXPECT_EQ(nearest_name("abcdef", {"abcxyf"}), "abcxyf");  // two of six letters
  EXPECT_EQ(nearest_name("abcdef", {"abcxyz"}), "");        // three
}

}  // namespace
}  // namespace rev::train
