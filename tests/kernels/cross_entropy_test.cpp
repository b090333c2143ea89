#include "rev/kernels/cross_entropy.h"

#include <ATen/Parallel.h>
#include <cmath>
#include <gtest/gtest.h>
#include <limits>
#include <torch/torch.h>

#include "support/throws.h"

namespace rev::kernels {
namespace {

using at::Tensor;

struct Size {
  int64_t rows, width;
};

// Rows that a warp takes and rows that a block takes, whole rounds of them and not.
constexpr Size kSizes[] = {{0, 5},    {1, 1},    {6, 3},    {5, 255},  {5, 256},
                           {40, 257}, {3, 1024}, {3, 1025}, {2, 2048}, {3, 7001}};

Tensor random_targets(const Size& size) {
  Tensor targets = torch::randint(std::max<int64_t>(size.width, 1), {size.rows});
  for (int64_t row = 3; row < size.rows; row += 5) targets[row] = kIgnoreIndex;
  return targets;
}

// The formula in float64, and its gradient times factor.
struct Reference {
  Tensor loss, lse, gradient;  // [N], [N], [N,V]
  Tensor softmax;              // [N,V], times (1 + 2 z lse) factor: what the gradient is made of

  Reference(const Tensor& logits, const Tensor& targets, double factor, double z) {
    const Tensor x = logits.to(at::kDouble), kept = targets.ne(kIgnoreIndex).to(at::kDouble);
    const Tensor target = targets.masked_fill(targets.eq(kIgnoreIndex), 0).unsqueeze(1);
    lse = x.logsumexp(1) * kept;
    loss = (lse - x.gather(1, target).squeeze(1) + z * lse * lse) * kept;
    softmax = x.softmax(1) * ((1 + 2 * z * lse) * kept * factor).unsqueeze(1);
    gradient = softmax.scatter_add(1, target, -factor * kept.unsqueeze(1));
  }
};

constexpr double kRounding = 0x1p-24;  // of float32, relative

// How far the sum of exponentials is from its true value, relative, in kRounding: an exponent is a
// difference below `range`, rounded once; exp is off by two; a running sum has an addition and, at
// most, a rescaling (exp and product: three) for each round, whose number is the width / 256; and
// halvings add eleven.
double sum_error(const Tensor& logits) {
  const double range = (logits.max() - logits.min()).item<double>();
  return range + 2 + 4 * (static_cast<double>(logits.size(1)) / 256 + 1) + 11;
}

// The loss is (max - x_t) + log(sum), the former below `range` and the latter below log V <= 9
// here, with log off by two roundings of itself: 2 range + 4 * 9 for both and their sum. lse is the
// same with |max| <= 20 in range's place. z lse^2 doubles lse's relative error and rounds twice.
double loss_tolerance(const Tensor& logits, double z) {
  const double range = (logits.max() - logits.min()).item<double>();
  const double lse = 30, lse_error = sum_error(logits) + 2 * 20 + 36;
  return kRounding *
         (sum_error(logits) + 2 * range + 36 + z * (2 * lse * lse_error + 3 * lse * lse));
}

void expect_below(const Tensor& error, const Tensor& bound, const char* what) {
  EXPECT_TRUE(error.le(bound).all().item<bool>())
      << what << ": " << (error / bound).max().item<double>() << " times the bound";
}

TEST(CrossEntropyTest, IsTheFormulaAndItsGradient) {
  torch::manual_seed(1);
  for (const Size& size : kSizes) {
    for (const auto dtype : {at::kFloat, at::kBFloat16}) {
      for (const double z : {0.0, 0.01}) {
        const Tensor logits = torch::randn({size.rows, size.width}).mul(4).to(dtype);
        const Tensor targets = random_targets(size);
        const double factor = 0.75;
        const Reference want(logits, targets, factor, z);
        Tensor x = logits.clone(), lse = torch::empty({size.rows});
        const Tensor loss = cross_entropy_(x, targets, factor, z, lse);
        EXPECT_EQ(loss.scalar_type(), at::kFloat);
        EXPECT_EQ(x.scalar_type(), dtype);
        if (size.rows == 0) continue;

        const double tolerance = loss_tolerance(logits, z);
        EXPECT_LT((loss - want.loss).abs().max().item<double>(), tolerance) << size.width << dtype;
        EXPECT_LT((lse - want.lse).abs().max().item<double>(),
                  loss_tolerance(logits, 0) + 40 * kRounding);
        // The exponential, its rounded exponent and the sum, and 1 + 2 z lse, which is at least
        // 0.4 here: relative to the softmax. The difference, and the result's dtype, round it.
        const double relative =
            kRounding * (2 * sum_error(logits) + 8) + 2 * z * loss_tolerance(logits, 0) / 0.4;
        const double rounding = dtype == at::kFloat ? kRounding : 0x1p-8;
        expect_below((x.to(at::kDouble) - want.gradient).abs(),
                     relative * want.softmax.abs() + 1.01 * rounding * want.gradient.abs() + 1e-37,
                     "gradient");
      }
    }
  }
}

TEST(CrossEntropyTest, WithoutTheGradientTheLogitsStayAndTheLossHasTheSameBits) {
  torch::manual_seed(2);
  for (const Size& size : kSizes) {
    for (const auto dtype : {at::kFloat, at::kBFloat16}) {
      const Tensor logits = torch::randn({size.rows, size.width}).mul(3).to(dtype);
      const Tensor targets = random_targets(size), before = logits.clone();
      Tensor x = logits.clone(), lse = torch::empty({size.rows}), lse_ = torch::empty({size.rows});
      const Tensor loss = cross_entropy(logits, targets, 0.001, lse);
      EXPECT_TRUE(at::equal(logits, before));
      EXPECT_TRUE(at::equal(loss, cross_entropy_(x, targets, 0.5, 0.001, lse_)));
      EXPECT_TRUE(at::equal(lse, lse_));
    }
  }
}

TEST(CrossEntropyTest, RowsMayLieApart) {
  torch::manual_seed(3);
  for (const Size& size : {Size{6, 9}, Size{4, 1030}}) {
    const Tensor whole = torch::randn({size.rows, size.width + 7}), before = whole.clone();
    const Tensor targets = random_targets(size);
    Tensor part = whole.narrow(1, 2, size.width), packed = part.contiguous();
    EXPECT_TRUE(at::equal(cross_entropy_(part, targets), cross_entropy_(packed, targets)));
    EXPECT_TRUE(at::equal(part, packed));
    for (const auto& [from, count] : {std::pair{int64_t{0}, int64_t{2}}, {size.width + 2, 5}}) {
      EXPECT_TRUE(at::equal(whole.narrow(1, from, count), before.narrow(1, from, count)));
    }
  }
  Tensor turned = torch::randn({3, 1}).t().contiguous().t();  // one column: no strides to mind
  EXPECT_EQ(cross_entropy(turned, torch::zeros({3}, at::kLong)).abs().max().item<float>(), 0.0f);
}

TEST(CrossEntropyTest, TheNumberOfThreadsChangesNoBit) {
  torch::manual_seed(4);
  const Tensor logits = torch::randn({64, 2100}), targets = random_targets({64, 2100});
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  Tensor one = logits.clone(), many = logits.clone();
  const Tensor loss = cross_entropy_(one, targets);
  at::set_num_threads(std::max(threads, 2));
  EXPECT_TRUE(at::equal(cross_entropy_(many, targets), loss));
  EXPECT_TRUE(at::equal(many, one));
  at::set_num_threads(threads);
}

TEST(CrossEntropyTest, LargeLogitsNeitherOverflowNorVanish) {
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    Tensor x = torch::tensor({{1024.0f, -1024.0f}, {1024.0f, -1024.0f}}).to(dtype);
    const Tensor loss = cross_entropy_(x, torch::tensor({0, 1}));
    EXPECT_TRUE(at::equal(loss, torch::tensor({0.0f, 2048.0f})));
    EXPECT_TRUE(at::equal(x, torch::tensor({{0.0f, 0.0f}, {1.0f, -1.0f}}).to(dtype)));
  }
}

TEST(CrossEntropyTest, MinusInfinityIsALogitThatCannotBe) {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  for (const int64_t width : {300, 3000}) {
    // All but three columns, so that whole rounds are masked.
    Tensor x = torch::full({2, width}, -kInf);
    const Tensor columns = torch::tensor({int64_t{1}, width / 2, width - 1});
    const Tensor few = torch::tensor({{0.5f, -1.0f, 2.0f}, {0.5f, -1.0f, 2.0f}});
    x.index_copy_(1, columns, few);
    const Tensor targets = torch::tensor({width / 2, int64_t{0}});
    const Tensor loss = cross_entropy_(x, targets);
    const Reference want(few, torch::tensor({1, 0}), 1, 0);
    // Three terms below e^3: as in loss_tolerance with range 3, no rescaling but one.
    EXPECT_NEAR(loss[0].item<double>(), want.loss[0].item<double>(), 40 * kRounding);
    EXPECT_EQ(loss[1].item<float>(), kInf);
    EXPECT_LT((x[0].index_select(0, columns) - want.gradient[0]).abs().max().item<double>(),
              40 * kRounding);
    EXPECT_EQ(x[0].count_nonzero().item<int64_t>(), 3);
  }
}

TEST(CrossEntropyTest, WhatIsNotANumberShows) {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  for (const int64_t width : {5, 1200}) {
    for (const float value : {kNan, kInf}) {
      Tensor x = torch::randn({2, width});
      x[0][2] = value;
      const Tensor loss = cross_entropy_(x, torch::tensor({1, 1}));
      EXPECT_TRUE(std::isnan(loss[0].item<float>()));
      EXPECT_FALSE(std::isnan(loss[1].item<float>()));
      EXPECT_TRUE(x[0].isnan().all().item<bool>());
      EXPECT_FALSE(x[1].isnan().any().item<bool>());
    }
    Tensor none = torch::full({1, width}, -kInf);
    EXPECT_TRUE(std::isnan(cross_entropy_(none, torch::tensor({1})).item<float>()));
    EXPECT_TRUE(none.isnan().all().item<bool>());
  }
}

TEST(CrossEntropyTest, IgnoredRowsAreZeroWhateverTheyHold) {
  for (const int64_t width : {5, 1200}) {
    Tensor x = torch::full({2, width}, std::numeric_limits<float>::quiet_NaN());
    x[1].fill_(std::numeric_limits<float>::infinity());
    Tensor lse = torch::ones({2});
    const Tensor loss = cross_entropy_(x, torch::full({2}, kIgnoreIndex), 1, 0.1, lse);
    for (const Tensor& zero : {loss, lse, x}) EXPECT_TRUE(at::equal(zero, at::zeros_like(zero)));
  }
}

TEST(CrossEntropyTest, NamesWhatDoesNotFit) {
  const Tensor targets = torch::zeros({4}, at::kLong);
  Tensor x = torch::ones({4, 3});
  EXPECT_THROW_WITH(cross_entropy(x.to(at::kDouble), targets),
                    "cross_entropy: logits must be float32 or bfloat16 [N,V], got Double [4, 3]");
  EXPECT_THROW_WITH(cross_entropy(x[0], targets), "[N,V], got Float [3]");
  EXPECT_THROW_WITH(
      cross_entropy(torch::empty({0, (int64_t{1} << 26) + 1}), torch::zeros({0}, at::kLong)),
      "cross_entropy: a row of logits has 67108865 elements, expected at most 67108864");
  EXPECT_THROW_WITH(cross_entropy(x.t(), torch::zeros({3}, at::kLong)),
                    "must lie side by side, and rows must not overlap; got strides [1, 3]");
  EXPECT_THROW_WITH(cross_entropy(torch::ones({1, 3}).expand({4, 3}), targets),
                    "must not overlap; got strides [0, 1]");
  EXPECT_THROW_WITH(cross_entropy_(x, targets.to(at::kInt)),
                    "cross_entropy_: targets must be int64 [4] on cpu, got Int [4] on cpu");
  EXPECT_THROW_WITH(cross_entropy_(x, targets.narrow(0, 0, 3)), "got Long [3]");
  EXPECT_THROW_WITH(cross_entropy_(x, targets, 1, 0, torch::zeros({4}, at::kDouble)),
                    "lse must be contiguous float32 [4] on cpu, got Double [4]");
  for (const int64_t target : {int64_t{3}, int64_t{-1}}) {
    EXPECT_THROW_WITH(
        cross_entropy_(x, torch::tensor({int64_t{0}, int64_t{1}, target, int64_t{0}})),
        "targets must be 0 to 2 or -100, got " + std::to_string(target) + " for row 2");
  }
  EXPECT_TRUE(at::equal(x, torch::ones({4, 3})));
}

}  // namespace
}  // namespace rev::kernels
