#include "rev/train/validate.h"

#include <gtest/gtest.h>
#include <numeric>
#include <torch/torch.h>

#include "data/tokens.h"
#include "support/throws.h"

namespace rev::train {
namespace {

// N tokens, each its own position.
data::TokenSource positions(size_t n) {
  std::vector<uint16_t> tokens(n);
  std::iota(tokens.begin(), tokens.end(), uint16_t{0});
  return data::make_tokens(std::move(tokens), 65536);
}

TEST(ValidateTest, IsTheMeanOverWindowsThatAreSpreadEvenly) {
  std::vector<int64_t> first;
  const auto loss = [&](const data::Batch& batch) {
    EXPECT_FALSE(at::GradMode::is_enabled());
    first.push_back(batch.inputs[0][0].item<int64_t>());
    return batch.inputs.to(at::kDouble).mean();
  };
  // 10 windows of 4 tokens; batches of 3: the last has one window.
  const data::TokenSource tokens = positions(41);
  EXPECT_DOUBLE_EQ(validate(tokens, {3, 4, 100}, loss), 19.5);  // the mean of 0 to 39
  EXPECT_EQ(first, (std::vector<int64_t>{0, 12, 24, 36}));
  first.clear();
  EXPECT_DOUBLE_EQ(validate(tokens, {2, 4, 2}, loss), (3.5 + 23.5) / 2);  // windows 0, 1 and 5, 6
  EXPECT_EQ(first, (std::vector<int64_t>{0, 20}));
  EXPECT_TRUE(at::GradMode::is_enabled());
}

TEST(ValidateTest, RefusesWhatHasNoMean) {
  const auto loss = [](const data::Batch&) { return torch::zeros({}); };
  EXPECT_THROW_WITH(validate(positions(4), {1, 4, 1}, loss), "need at least 5 tokens");
  EXPECT_THROW_WITH(validate(positions(9), {0, 4, 1}, loss), "of at least 1, got 0 and 1");
  EXPECT_THROW_WITH(validate(positions(9), {1, 4, 0}, loss), "of at least 1, got 1 and 0");
}

}  // namespace
}  // namespace rev::train
