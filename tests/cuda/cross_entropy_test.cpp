#include "cuda/cross_entropy.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <tuple>
#include <vector>

#include "cuda/support/kernel_test.h"
#include "cuda/support/numbers.h"

namespace rev::cuda {
namespace {

using namespace testing;

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

template <class T>
struct Case {
  LogitRows size;
  std::vector<T> logits;
  std::vector<int64_t> targets;
};

// Random logits with gaps between the rows, and targets of which every fifth is ignored.
template <class T>
Case<T> random_case(int64_t rows, int64_t width, int64_t gap, uint64_t seed) {
  Random random(seed);
  Case<T> c{{rows, width, width + gap}, {}, {}};
  c.logits = random.reals<T>(rows * c.size.stride - gap, 20.0f);
  for (int64_t row = 0; row < rows; ++row) {
    c.targets.push_back(row % 5 == 3 ? kIgnoredTarget : random.integer(0, width));
  }
  return c;
}

template <class T>
using Results = std::tuple<std::vector<T>, std::vector<float>, std::vector<float>>;

// The formula, a row at a time.
template <class T>
Results<T> expected(const Case<T>& c, const CrossEntropy& terms, bool gradient) {
  std::vector<T> x = c.logits;
  std::vector<float> loss, lse;
  const int64_t n = c.size.width;
  for (int64_t row = 0; row < c.size.rows; ++row) {
    T* const begin = x.data() + row * c.size.stride;
    const int64_t target = c.targets[static_cast<std::size_t>(row)];
    const bool ignored = target == kIgnoredTarget, inside = target >= 0 && target < n;
    const Softmax softmax =
        is_narrow(n) ? ordered_softmax<32>(begin, n, 1) : ordered_softmax<256>(begin, n, 1);
    RowLoss result = row_loss(softmax, inside ? widen(begin[target]) : kNan, terms);
    if (!inside) result.slope = kNan;
    loss.push_back(ignored ? 0 : result.loss);
    lse.push_back(ignored ? 0 : result.lse);
    for (int64_t j = 0; gradient && j < n; ++j) {
      const float slope = cross_entropy_gradient(widen(begin[j]), softmax.max, result.slope);
      begin[j] = narrow<T>(ignored ? 0 : j == target ? slope - terms.factor : slope);
    }
  }
  return {same_nans(x), same_nans(loss), same_nans(lse)};
}

template <class T>
void check(const Case<T>& c, const CrossEntropy& terms, int64_t shift = 0) {
  for (const bool gradient : {true, false}) {
    const auto got = in_every_schedule([&] {
      const Buffer<T> x(c.logits, shift);
      const Buffer<int64_t> targets(c.targets);
      const Buffer<float> loss(c.size.rows), lse(c.size.rows);
      const RowLosses to{loss.data(), lse.data()};
      if (gradient) {
        launch_cross_entropy_gradient(x.data(), targets.data(), to, c.size, terms, nullptr);
      } else {
        launch_cross_entropy<T>(x.data(), targets.data(), to, c.size, terms, nullptr);
      }
      return Results<T>(same_nans(x.values()), same_nans(loss.values()), same_nans(lse.values()));
    });
    EXPECT_TRUE(same_bits(got, expected(c, terms, gradient)))
        << c.size.rows << " x " << c.size.width << ", stride " << c.size.stride << ", shift "
        << shift << ", gradient " << gradient;
  }
}

template <class T>
class CrossEntropyTest : public KernelTest {};
using Types = ::testing::Types<float, BFloat16>;
TYPED_TEST_SUITE(CrossEntropyTest, Types);

constexpr CrossEntropy kTerms{0.125f, 0.75f};

TYPED_TEST(CrossEntropyTest, IsTheFormulaAtEveryWidth) {
  for (const int64_t width : {1, 31, 32, 33, 256, 257, 1023, 1024, 1025, 2048, 2049}) {
    check(random_case<TypeParam>(width > 1000 ? 2 : 6, width, 0, 1), kTerms);
  }
}

TYPED_TEST(CrossEntropyTest, MoreRowsThanABlockTakes) {
  check(random_case<TypeParam>(19, 40, 0, 2), kTerms);
}

TYPED_TEST(CrossEntropyTest, BlocksTakeRowsOneAfterTheOther) {
  const FewBlocks few(1);
  check(random_case<TypeParam>(27, 40, 0, 11), kTerms);
  check(random_case<TypeParam>(4, 1032, 0, 11), kTerms);
}

TYPED_TEST(CrossEntropyTest, AWideRowIsTakenInRounds) {
  check(random_case<TypeParam>(1, 3 * 2048 + 8, 0, 3), kTerms);
}

TYPED_TEST(CrossEntropyTest, RowsMayLieApart) {
  // With a gap of 7 rows of 2049 start at multiples of 16 bytes, though their ends are odd.
  for (const int64_t gap : {1, 7}) {
    check(random_case<TypeParam>(2, 2049, gap, 4), kTerms);
    check(random_case<TypeParam>(3, 33, gap, 4), kTerms);
  }
}

TYPED_TEST(CrossEntropyTest, RowsMayStartAnywhere) {
  for (int64_t shift = 1; shift < 4; ++shift) {
    check(random_case<TypeParam>(2, 2048, 0, 5), kTerms, shift);
    check(random_case<TypeParam>(2, 64, 0, 5), kTerms, shift);
  }
}

TYPED_TEST(CrossEntropyTest, ValuesThatRiseMoveTheMaximumEachTime) {
  for (const int64_t width : {1000, 5000}) {
    Case<TypeParam> c = random_case<TypeParam>(2, width, 0, 6);
    for (std::size_t j = 0; j < c.logits.size(); ++j) {
      c.logits[j] = narrow<TypeParam>(static_cast<float>(j) * 0.25f);
    }
    check(c, kTerms);
  }
}

TYPED_TEST(CrossEntropyTest, SpecialValues) {
  for (const int64_t width : {70, 2070}) {
    const float values[] = {kNan, kInf, -kInf, -0.0f, 0x1p-149f, 3e38f, -3e38f, kLowest};
    // One of them in a row; then a row of -inf but for two; then of it alone; then a target of it.
    Case<TypeParam> c = random_case<TypeParam>(11, width, 0, 7);
    const auto row = [&](int64_t r) { return c.logits.data() + r * width; };
    for (int64_t r = 0; r < 8; ++r) row(r)[width / 2] = narrow<TypeParam>(values[r]);
    for (int64_t r : {8, 9}) std::fill(row(r), row(r) + width, narrow<TypeParam>(-kInf));
    row(8)[5] = narrow<TypeParam>(2.0f);
    row(8)[width - 1] = narrow<TypeParam>(-2.0f);
    c.targets = {0, 1, 2, 3, 4, 5, 6, 7, width - 1, 0, 3};
    row(10)[3] = narrow<TypeParam>(-kInf);
    check(c, kTerms);
    check(c, {0.0f, 1.0f});
  }
}

TYPED_TEST(CrossEntropyTest, ATargetOutsideOfTheRowGivesNan) {
  for (const int64_t width : {9, 1032}) {
    Case<TypeParam> c = random_case<TypeParam>(4, width, 0, 8);
    c.targets = {width, -1, width - 1, int64_t{1} << 40};
    check(c, kTerms);
  }
}

TYPED_TEST(CrossEntropyTest, IgnoredRowsAreZeroWhateverTheyHold) {
  Case<TypeParam> c = random_case<TypeParam>(2, 1100, 0, 9);
  c.logits[3] = narrow<TypeParam>(kNan);
  c.logits[4] = narrow<TypeParam>(kInf);
  c.targets = {kIgnoredTarget, kIgnoredTarget};
  check(c, kTerms);
}

TYPED_TEST(CrossEntropyTest, LseIsNotWrittenUnlessAskedFor) {
  const auto c = random_case<TypeParam>(3, 12, 0, 10);
  const Buffer<TypeParam> x(c.logits);
  const Buffer<int64_t> targets(c.targets);
  const Buffer<float> loss(c.size.rows);
  launch_cross_entropy<TypeParam>(x.data(), targets.data(), {loss.data()}, c.size, kTerms, nullptr);
  EXPECT_TRUE(same_bits(loss.values(), std::get<1>(expected(c, kTerms, false))));
}

TYPED_TEST(CrossEntropyTest, NoRowsAreNoWork) {
  launch_cross_entropy<TypeParam>(nullptr, nullptr, {nullptr}, {0, 5, 5}, kTerms, nullptr);
}

}  // namespace
}  // namespace rev::cuda
