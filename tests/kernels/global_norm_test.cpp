#include "rev/kernels/global_norm.h"

#include <ATen/Parallel.h>
#include <cmath>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "support/throws.h"

namespace rev::kernels {
namespace {

using at::Tensor;

// What the header promises, for any number of elements.
constexpr double kTolerance = 6.6e-7;

double exact_norm(const std::vector<Tensor>& tensors) {
  double squares = 0;
  for (const Tensor& t : tensors) squares += t.to(at::kDouble).square().sum().item<double>();
  return std::sqrt(squares);
}

TEST(GlobalNormTest, IsThatOfAllTensorsInFloat64) {
  torch::manual_seed(81);
  const std::vector<Tensor> tensors = {torch::randn({3, 1000}),
                                       torch::randn({0, 4}),
                                       torch::randn({16385}) * 100,
                                       torch::randn({70000}).to(at::kBFloat16),
                                       torch::randn({}),
                                       torch::randn({31, 33}).t()};
  const GlobalNorm got = global_norm(tensors);
  EXPECT_NEAR(got.norm.item<double>() / exact_norm(tensors), 1, kTolerance);
  EXPECT_EQ(got.factor.item<float>(), 1);
  EXPECT_EQ(got.norm.dim(), 0);
}

TEST(GlobalNormTest, ManyEqualElementsDoNotDrift) {
  // 2^24 equal squares: one running float32 sum of them would stop growing.
  const Tensor x = torch::full({1 << 24}, 0.1f);
  const double exact = 4096 * static_cast<double>(0.1f);
  EXPECT_NEAR(global_norm({x}).norm.item<double>() / exact, 1, kTolerance);
}

TEST(GlobalNormTest, FactorLimitsTheNorm) {
  const Tensor x = torch::tensor({3.0f, 0.0f}), y = torch::tensor({-4.0f});
  const GlobalNorm got = global_norm({x, y}, 2);
  EXPECT_EQ(got.norm.item<float>(), 5);
  EXPECT_EQ(got.factor.item<float>(), 2.0f / 5.0f);
  EXPECT_EQ(global_norm({x, y}, 5).factor.item<float>(), 1);
}

TEST(GlobalNormTest, SaysWhereItIsNotFinite) {
  for (const float odd : {NAN, INFINITY}) {
    Tensor flag = torch::zeros({1}, at::kInt);
    const GlobalNorm got = global_norm({torch::tensor({1.0f, odd})}, 1, flag);
    EXPECT_FALSE(std::isfinite(got.norm.item<float>()));
    EXPECT_EQ(std::isinf(got.norm.item<float>()), std::isinf(odd));
    EXPECT_EQ(got.factor.item<float>(), 1);
    EXPECT_EQ(flag.item<int32_t>(), 1);
    global_norm({torch::ones({3})}, 1, flag);  // left alone
    EXPECT_EQ(flag.item<int32_t>(), 1);
  }
}

TEST(GlobalNormTest, OfNothingIsZero) {
  EXPECT_EQ(global_norm({}).norm.item<float>(), 0);
  EXPECT_EQ(global_norm({torch::ones({0})}).norm.item<float>(), 0);
}

TEST(GlobalNormTest, BitsDoNotDependOnTheNumberOfThreads) {
  torch::manual_seed(82);
  const std::vector<Tensor> tensors = {torch::randn({100001}), torch::randn({50000})};
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  const auto one = global_norm(tensors).norm.item<float>();
  at::set_num_threads(2);
  const auto two = global_norm(tensors).norm.item<float>();
  at::set_num_threads(threads);
  EXPECT_EQ(one, two);
}

TEST(GlobalNormTest, RefusesWhatDoesNotFit) {
  EXPECT_THROW_WITH(global_norm({torch::ones({2}, at::kDouble)}),
                    "must be float32 or bfloat16, got Double");
  EXPECT_THROW_WITH(global_norm({torch::ones({2})}, 1, torch::zeros({1})), "one int32 on cpu");
}

}  // namespace
}  // namespace rev::kernels
