#include "rev/kernels/dropout.h"

#include <ATen/Parallel.h>
#include <cmath>
#include <gtest/gtest.h>
#include <set>
#include <torch/torch.h>

#include "support/throws.h"

namespace rev::kernels {
namespace {

using at::Tensor;

const std::vector<std::vector<int64_t>> kShapes = {{0, 4}, {1},     {3},       {4, 8},   {63},
                                                   {64},   {5, 13}, {7, 1023}, {70, 257}};

TEST(DropoutTest, KeepsElementsByTheNumbersOfTheStream) {
  // Philox's published numbers for a counter and a key of zeros are 0.40, 0.88, 0.74 and 0.61 of
  // 2^32.
  const Tensor x = torch::tensor({1.0f, 2.0f, 3.0f, 4.0f});
  const auto kept = [&](double p) { return philox_dropout(x, p, Philox{}).gt(0); };
  EXPECT_TRUE(at::equal(kept(0.3), torch::tensor({true, false, false, true})));
  EXPECT_TRUE(at::equal(kept(0.1), torch::tensor({true, true, true, true})));
  EXPECT_TRUE(at::equal(kept(0.2), torch::tensor({true, false, true, true})));
  EXPECT_TRUE(at::equal(kept(0.6), torch::tensor({true, false, false, false})));
  EXPECT_TRUE(at::equal(kept(0.605), torch::tensor({false, false, false, false})));
}

TEST(DropoutTest, IsTheProductWithTheMaskInEveryBit) {
  for (const auto& shape : kShapes) {
    for (const auto dtype : {at::kFloat, at::kBFloat16}) {
      for (const double p : {0.1, 0.5, 0.9}) {
        const Philox from{12345, 8};
        const Tensor x = torch::randn(shape).to(dtype);
        const Tensor mask = philox_mask(shape, p, from, c10::kCPU);
        EXPECT_EQ(mask.scalar_type(), at::kBool);
        EXPECT_TRUE(at::equal(philox_dropout(x, p, from), x.mul(mask).mul(1 / (1 - p))))
            << shape << dtype;
      }
    }
  }
  const Tensor x = torch::randn({6, 9}), y = philox_dropout(x.t(), 0.4, Philox{3});
  EXPECT_TRUE(y.is_contiguous());
  EXPECT_TRUE(at::equal(y, philox_dropout(x.t().contiguous(), 0.4, Philox{3})));
}

TEST(DropoutTest, StreamsAreFunctionsOfSeedAndOffset) {
  const auto mask = [](const Philox& from) { return philox_mask({256}, 0.5, from, c10::kCPU); };
  const Tensor one = mask({7, 0});
  EXPECT_TRUE(at::equal(mask({7, 0}), one));
  for (const Philox& other : {Philox{8, 0}, Philox{7, 4}, Philox{7 + (int64_t{1} << 32), 0},
                              Philox{7, int64_t{1} << 40}, Philox{-7, 0}}) {
    // Two masks that know nothing of each other agree in 256 places with a chance of 2^-256; they
    // agree in half of them to within five standard deviations, 5 sqrt(256) / 2 = 40.
    EXPECT_NEAR(mask(other).eq(one).sum().item<double>(), 128, 40);
  }
}

TEST(DropoutTest, EveryElementIsKeptWithTheProbability) {
  // n draws: standard deviation sqrt(p (1 - p) / n), times 5; also for the four numbers of a
  // counter each by itself.
  const int64_t n = 1 << 15;
  for (const double p : {0.05, 0.5, 0.8}) {
    const Tensor kept = philox_mask({n, 4}, p, Philox{99}, c10::kCPU).to(at::kDouble).mean(0);
    for (int64_t word = 0; word < 4; ++word) {
      EXPECT_NEAR(kept[word].item<double>(), 1 - p,
                  5 * std::sqrt(p * (1 - p) / static_cast<double>(n)));
    }
  }
}

TEST(DropoutTest, WithZeroEverythingIsKept) {
  const Tensor x = torch::randn({1000});
  EXPECT_TRUE(at::equal(philox_dropout(x, 0, Philox{5}), x));
  EXPECT_TRUE(philox_mask({1000}, 0, {5}, c10::kCPU).all().item<bool>());
}

TEST(DropoutTest, DrawsRepeatUnderTheSameGeneratorState) {
  const auto seeds = [] {
    std::vector<int64_t> drawn;
    for (int i = 0; i < 20; ++i) {
      const Philox from = draw_philox(c10::kCPU);
      EXPECT_EQ(from.offset, 0);
      drawn.push_back(from.seed);
    }
    return drawn;
  };
  torch::manual_seed(4);
  const auto first = seeds(), more = seeds();
  torch::manual_seed(4);
  EXPECT_EQ(seeds(), first);
  std::set<int64_t> all(first.begin(), first.end());
  all.insert(more.begin(), more.end());
  EXPECT_EQ(all.size(), 40u);
}

TEST(DropoutTest, BitsDoNotDependOnTheNumberOfThreads) {
  const Tensor x = torch::randn({301, 127}), x16 = x.to(at::kBFloat16);
  const auto run = [&](int threads) {
    at::set_num_threads(threads);
    return std::vector<Tensor>{philox_dropout(x, 0.3, Philox{1}),
                               philox_dropout(x16, 0.3, Philox{1}),
                               philox_mask(x.sizes(), 0.3, Philox{1}, c10::kCPU)};
  };
  const int threads = at::get_num_threads();
  const auto one = run(1), two = run(2);
  at::set_num_threads(threads);
  for (size_t i = 0; i < one.size(); ++i) EXPECT_TRUE(at::equal(one[i], two[i])) << i;
}

TEST(DropoutTest, RefusesWhatDoesNotFit) {
  const Tensor x = torch::zeros({4});
  EXPECT_THROW_WITH(philox_dropout(x, 1.0, Philox{}), "expected 0 <= p < 1");
  EXPECT_THROW_WITH(philox_dropout(x, -0.1, Philox{}), "expected 0 <= p < 1");
  EXPECT_THROW_WITH(philox_mask({4}, std::nan(""), {}, c10::kCPU), "expected 0 <= p < 1");
  EXPECT_THROW_WITH(philox_dropout(x.to(at::kDouble), 0.5, Philox{}),
                    "float32 or bfloat16, got Double");
  EXPECT_THROW_WITH(draw_philox(c10::kMeta), "expected the CPU or a CUDA device, got meta");
  const int64_t number = 0;
  EXPECT_THROW_WITH(philox_dropout(x, 0.5, {0, 0, &number}), "is a value, not a pointer");
  EXPECT_THROW_WITH(philox_mask({4}, 0.5, {0, 0, &number}, c10::kCPU), "is a value, not a pointer");
}

}  // namespace
}  // namespace rev::kernels
