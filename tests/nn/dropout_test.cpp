#include "rev/nn/dropout.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "support/throws.h"

namespace rev::nn {
namespace {

using at::Tensor;

TEST(DropoutTest, SameGeneratorStateGivesTheSameMaskWhateverTheDtype) {
  const Tensor x = torch::ones({17, 33});
  torch::manual_seed(5);
  const Tensor y = dropout(x, 0.3), z = dropout(x, 0.3);
  torch::manual_seed(5);
  const Tensor y16 = dropout(x.to(at::kBFloat16), 0.3);
  torch::manual_seed(5);
  const Tensor mask = dropout_mask({17, 33}, 0.3, c10::kCPU);
  EXPECT_TRUE(at::equal(y.ne(0), y16.ne(0)));
  EXPECT_TRUE(at::equal(y.ne(0), mask));
  EXPECT_FALSE(at::equal(y, z));
}

TEST(DropoutTest, KeepsTheMean) {
  torch::manual_seed(6);
  // A mean of n terms that are 0 or 1/(1-p): standard deviation sqrt(p / (1 - p) / n), times 5.
  const double p = 0.2, n = 1 << 18;
  EXPECT_NEAR(dropout(torch::ones({1 << 18}), p).mean().item<double>(), 1.0,
              5 * std::sqrt(p / (1 - p) / n));
}

TEST(DropoutTest, WithZeroNothingIsDrawn) {
  const Tensor before = at::detail::getDefaultCPUGenerator().get_state();
  const Tensor x = torch::ones({4});
  EXPECT_TRUE(dropout(x, 0).is_same(x));
  EXPECT_TRUE(at::equal(before, at::detail::getDefaultCPUGenerator().get_state()));
}

TEST(DropoutTest, RefusesAProbabilityOfOne) {
  EXPECT_THROW_WITH(dropout(torch::ones({4}), 1.0), "0 <= p < 1");
}

}  // namespace
}  // namespace rev::nn
