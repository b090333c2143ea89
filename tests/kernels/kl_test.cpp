#include "rev/kernels/kl.h"

#include <ATen/Parallel.h>
#include <cmath>
#include <gtest/gtest.h>
#include <limits>
#include <torch/torch.h>

#include "rev/kernels/cross_entropy.h"
#include "support/throws.h"

namespace rev::kernels {
namespace {

using at::Tensor;

struct Size {
  int64_t rows, width;
};

// Rows that a warp takes and rows that a block takes, whole rounds of them and not.
constexpr Size kSizes[] = {{0, 5},    {1, 1},    {6, 3},    {5, 255}, {5, 256},
                           {40, 257}, {3, 1024}, {3, 1025}, {2, 5000}};

constexpr Divergence kBoth[] = {Divergence::Forward, Divergence::Reverse};

Tensor random_targets(const Size& size) {
  Tensor targets = torch::randint(std::max<int64_t>(size.width, 1), {size.rows});
  for (int64_t row = 3; row < size.rows; row += 5) targets[row] = kIgnoreIndex;
  return targets;
}

// The formula in float64, its gradient by autograd, and what its rounding errors are measured by.
struct Reference {
  Tensor divergence, gradient;  // [N], [N,V]
  double sizes;                 // the largest row's sum of |terms|
  double ratios;                // the largest |log p - log q|

  Reference(const Tensor& teacher, const Tensor& student, const KlOptions& options, double factor) {
    const Tensor s = student.to(at::kDouble).detach().requires_grad_();
    const Tensor log_p = teacher.to(at::kDouble).div(options.temperature).log_softmax(1);
    const Tensor log_q = s.div(options.temperature).log_softmax(1);
    const bool reverse = options.direction == Divergence::Reverse;
    const Tensor terms = reverse ? log_q.exp() * (log_q - log_p) : log_p.exp() * (log_p - log_q);
    divergence = terms.sum(1);
    if (options.targets.defined()) {
      divergence = divergence * options.targets.ne(kIgnoreIndex).to(at::kDouble);
    }
    gradient = torch::autograd::grad({divergence.sum() * factor}, {s})[0];
    divergence = divergence.detach();
    sizes = terms.detach().abs().sum(1).max().item<double>();
    ratios = (log_p - log_q).detach().abs().max().item<double>();
  }
};

constexpr double kRounding = 0x1p-24;  // of float32, relative

// The relative error of a probability, in kRounding: an exponent, rounded twice, is below `range`,
// which a sum of such has once more, with two for exp; and what rescaling (four a round of 256) and
// halving (eleven) add; the reciprocal and the product.
double probability_error(const Tensor& x, double temperature) {
  const double range = (x.max() - x.min()).item<double>() / temperature;
  return 2 * (2 * range + 2) + 4 * (static_cast<double>(x.size(1)) / 256 + 1) + 11 + 2;
}

// A term is a probability times log p - log q, whose four parts, below range or log V <= 9, round
// twice each; terms are added with one error a round of 256 and eleven for the halving.
double tolerance(const Tensor& teacher, const Tensor& student, const KlOptions& options,
                 const Reference& want) {
  const double p = probability_error(teacher, options.temperature);
  const double q = probability_error(student, options.temperature);
  const double range = std::max((teacher.max() - teacher.min()).item<double>(),
                                (student.max() - student.min()).item<double>()) /
                       options.temperature;
  const double adding = static_cast<double>(teacher.size(1)) / 256 + 12;
  return kRounding * ((std::max(p, q) + adding) * want.sizes + 4 * (range + 9) + p + q);
}

TEST(KlTest, IsTheFormulaAndItsGradient) {
  torch::manual_seed(1);
  for (const Size& size : kSizes) {
    for (const auto dtype : {at::kFloat, at::kBFloat16}) {
      for (const Divergence direction : kBoth) {
        for (const double temperature : {1.0, 2.5}) {
          const Tensor teacher = torch::randn({size.rows, size.width}).mul(3).to(dtype);
          const Tensor student = torch::randn({size.rows, size.width}).mul(2).to(dtype);
          const KlOptions options{direction, temperature, random_targets(size)};
          const double factor = 0.75;
          Tensor s = student.clone();
          const Tensor divergence = kl_(teacher, s, options, factor);
          EXPECT_EQ(divergence.scalar_type(), at::kFloat);
          EXPECT_EQ(divergence.sizes(), at::IntArrayRef({size.rows}));
          EXPECT_EQ(s.scalar_type(), dtype);
          if (size.rows == 0) continue;

          const Reference want(teacher, student, options, factor);
          const double bound = tolerance(teacher, student, options, want);
          EXPECT_LT((divergence - want.divergence).abs().max().item<double>(), bound)
              << size.width << dtype << temperature;
          // Forward: two probabilities, up to 1, each off by a relative error. Reverse: a
          // probability times a ratio and a divergence. Then the result rounds to its dtype.
          const double error =
              kRounding *
                  (probability_error(teacher, temperature) +
                   probability_error(student, temperature)) *
                  (direction == Divergence::Forward ? 1 : want.ratios + want.sizes) +
              bound;
          const double rounding = dtype == at::kFloat ? kRounding : 0x1p-8;
          const Tensor off = (s.to(at::kDouble) - want.gradient).abs();
          EXPECT_TRUE(off.le(factor / temperature * error + 1.01 * rounding * want.gradient.abs())
                          .all()
                          .item<bool>())
              << size.width << dtype << off.max();
        }
      }
    }
  }
}

TEST(KlTest, IsZeroWhereBothAreTheSame) {
  torch::manual_seed(2);
  for (const Divergence direction : kBoth) {
    const Tensor teacher = torch::randn({4, 2000}).mul(5);
    // The student's logits may be shifted as a whole; by a power of two, so that none rounds.
    for (const float shift : {0.0f, 64.0f}) {
      const Tensor rounded = teacher.mul(256).round().div(256);
      Tensor student = rounded + shift;
      const Tensor divergence = kl_(rounded, student, {direction});
      EXPECT_EQ(divergence.abs().max().item<float>(), 0.0f);
      EXPECT_EQ(student.abs().max().item<float>(), 0.0f);
    }
  }
}

TEST(KlTest, WithoutTheGradientTheLogitsStayAndTheDivergenceHasTheSameBits) {
  torch::manual_seed(3);
  for (const Size& size : kSizes) {
    for (const auto dtype : {at::kFloat, at::kBFloat16}) {
      for (const Divergence direction : kBoth) {
        const Tensor teacher = torch::randn({size.rows, size.width}).to(dtype);
        const Tensor student = torch::randn({size.rows, size.width}).to(dtype);
        const Tensor t = teacher.clone();
        Tensor s = student.clone();
        const KlOptions options{direction, 0.5, random_targets(size)};
        const Tensor divergence = kl(teacher, s, options);
        EXPECT_TRUE(at::equal(s, student));
        EXPECT_TRUE(at::equal(kl_(teacher, s, options), divergence));
        EXPECT_TRUE(at::equal(teacher, t));
      }
    }
  }
}

TEST(KlTest, WithoutTargetsEveryRowTakesPart) {
  torch::manual_seed(4);
  const Tensor teacher = torch::randn({6, 30}), student = torch::randn({6, 30});
  const Tensor targets = random_targets({6, 30}), kept = targets.ne(kIgnoreIndex);
  for (const Divergence direction : kBoth) {
    const Tensor all = kl(teacher, student, {direction});
    EXPECT_TRUE(all.gt(0).all().item<bool>());
    EXPECT_TRUE(at::equal(kl(teacher, student, {direction, 1, targets}), all * kept));
  }
}

TEST(KlTest, RowsMayLieApart) {
  torch::manual_seed(5);
  for (const Size& size : {Size{6, 9}, Size{4, 1030}}) {
    const Tensor teacher = torch::randn({size.rows, size.width + 3}).narrow(1, 3, size.width);
    const Tensor whole = torch::randn({size.rows, size.width + 7}), before = whole.clone();
    for (const Divergence direction : kBoth) {
      Tensor part = whole.narrow(1, 2, size.width), packed = part.contiguous();
      EXPECT_TRUE(at::equal(kl_(teacher, part, {direction}),
                            kl_(teacher.contiguous(), packed, {direction})));
      EXPECT_TRUE(at::equal(part, packed));
      for (const auto& [from, count] : {std::pair{int64_t{0}, int64_t{2}}, {size.width + 2, 5}}) {
        EXPECT_TRUE(at::equal(whole.narrow(1, from, count), before.narrow(1, from, count)));
      }
    }
  }
}

TEST(KlTest, TheNumberOfThreadsChangesNoBit) {
  torch::manual_seed(6);
  const Tensor teacher = torch::randn({64, 2100}), student = torch::randn({64, 2100});
  const int threads = at::get_num_threads();
  for (const Divergence direction : kBoth) {
    at::set_num_threads(1);
    Tensor one = student.clone(), many = student.clone();
    const Tensor divergence = kl_(teacher, one, {direction});
    at::set_num_threads(std::max(threads, 2));
    EXPECT_TRUE(at::equal(kl_(teacher, many, {direction}), divergence));
    EXPECT_TRUE(at::equal(many, one));
  }
  at::set_num_threads(threads);
}

TEST(KlTest, MinusInfinityIsALogitThatCannotBe) {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  const Tensor teacher = torch::tensor({{0.0f, 0.0f, -kInf}, {0.0f, 0.0f, 0.0f}});
  const Tensor student = torch::tensor({{0.0f, 0.0f, 0.0f}, {0.0f, 0.0f, -kInf}});
  // Probabilities of 1/2 and 1/3.
  const double ratio = std::log(1.5);
  Tensor s = student.clone();
  const Tensor forward = kl_(teacher, s);
  EXPECT_NEAR(forward[0].item<double>(), ratio, 8 * kRounding);
  EXPECT_EQ(forward[1].item<float>(), kInf);
  const Tensor gradient =
      torch::tensor({{-1.0 / 6, -1.0 / 6, 1.0 / 3}, {1.0 / 6, 1.0 / 6, -1.0 / 3}}, at::kDouble);
  EXPECT_LT((s - gradient).abs().max().item<double>(), 8 * kRounding);

  s = student.clone();
  const Tensor reverse = kl_(teacher, s, {Divergence::Reverse});
  EXPECT_EQ(reverse[0].item<float>(), kInf);
  EXPECT_NEAR(reverse[1].item<double>(), ratio, 8 * kRounding);
  EXPECT_LT(s[1].abs().max().item<double>(), 8 * kRounding);  // log q - log p is the same for all
}

TEST(KlTest, WhatIsNotANumberShowsButInIgnoredRows) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const Divergence direction : kBoth) {
    for (const bool of_teacher : {true, false}) {
      for (const int64_t width : {5, 1200}) {
        Tensor teacher = torch::randn({3, width}), student = torch::randn({3, width});
        (of_teacher ? teacher : student).narrow(0, 0, 2).narrow(1, 2, 1).fill_(nan);
        const Tensor divergence =
            kl_(teacher, student,
                {direction, 1, torch::tensor({int64_t{0}, kIgnoreIndex, int64_t{1}})});
        EXPECT_TRUE(std::isnan(divergence[0].item<float>()));
        EXPECT_TRUE(student[0].isnan().all().item<bool>());
        EXPECT_EQ(divergence[1].item<float>(), 0.0f);
        EXPECT_EQ(student[1].count_nonzero().item<int64_t>(), 0);
        EXPECT_FALSE(std::isnan(divergence[2].item<float>()));
        EXPECT_FALSE(student[2].isnan().any().item<bool>());
      }
    }
  }
}

TEST(KlTest, TheLowestTemperatureLeavesTheGreatestLogitAlone) {
  const Tensor x = torch::tensor({{1.0f, 2.0f, 0.0f}});
  EXPECT_EQ(kl(x, x, {Divergence::Forward, 0x1p-126}).item<float>(), 0.0f);
}

TEST(KlTest, NamesWhatDoesNotFit) {
  Tensor x = torch::ones({4, 3});
  const Tensor y = torch::ones({4, 3});
  EXPECT_THROW_WITH(kl(y.to(at::kHalf), x),
                    "kl: the teacher's logits must be float32 or bfloat16 [N,V], got Half [4, 3]");
  EXPECT_THROW_WITH(kl(y, x.t()), "a row of the student's logits must lie side by side");
  EXPECT_THROW_WITH(
      kl_(y.to(at::kBFloat16), x),
      "kl_: the teacher's logits are BFloat16 [4, 3] on cpu, the student's Float [4, 3]");
  EXPECT_THROW_WITH(kl_(torch::ones({4, 2}), x), "the teacher's logits are Float [4, 2]");
  // 1 / 2^-128 is infinite in float32.
  for (const double temperature :
       {0.0, -1.0, 0x1p-128, 0x1.fffp-127, std::numeric_limits<double>::infinity()}) {
    EXPECT_THROW_WITH(kl(y, x, {Divergence::Forward, temperature}),
                      "the temperature must be finite and at least 1.17549e-38, got ");
  }
  EXPECT_THROW_WITH(kl(y, x, {Divergence::Forward, 1, torch::zeros({3}, at::kLong)}),
                    "targets must be int64 [4] on cpu, got Long [3]");
  EXPECT_TRUE(at::equal(x, torch::ones({4, 3})));
}

}  // namespace
}  // namespace rev::kernels
