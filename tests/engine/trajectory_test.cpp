#include "rev/engine/trajectory.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "engine/stacks.h"

namespace rev::engine {
namespace {

using at::Tensor;

class TrajectoryTest : public ::testing::TestWithParam<std::string> {};

// Each point is the result of a stack of the layers up to it. (Layers are made in order from one
// seed, so that a shorter stack has the same first ones.)
TEST_P(TrajectoryTest, EachPointIsTheResultOfAStackThatEndsThere) {
  const bool inverts = GetParam() != "residual";
  const auto make = [&](int64_t depth) {
    return make_stack({.scheme = GetParam(),
                       .n_layers = depth,
                       .memory = inverts ? Memory::Invert : Memory::Store,
                       .state = at::kDouble});
  };
  torch::manual_seed(5);
  const Tensor x = torch::randn({2, 6, kChannels}, at::kDouble);
  const TestStack whole = make(5);
  int64_t n_seen = 0;
  trajectory(*whole.stack, x, [&](int64_t l, const Tensor& p) {
    EXPECT_EQ(l, n_seen++);
    EXPECT_FALSE(p.requires_grad());
    EXPECT_TRUE(at::equal(p, make(l + 1).stack->forward(x))) << l;
  });
  EXPECT_EQ(n_seen, 5);
}

INSTANTIATE_TEST_SUITE_P(Schemes, TrajectoryTest, ::testing::ValuesIn(kSchemes),
                         [](const auto& tested) { return test_name(tested.param); });

}  // namespace
}  // namespace rev::engine
