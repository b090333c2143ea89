#include "cuda/kl.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <tuple>
#include <vector>

#include "cuda/kl_math.h"
#include "cuda/support/kernel_test.h"
#include "cuda/support/numbers.h"

namespace rev::cuda {
namespace {

using namespace testing;

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

template <class T>
struct Case {
  KlRows size;
  std::vector<T> teacher, student;
  std::vector<int64_t> targets;
};

// Random logits with gaps between the rows, and targets of which every fifth is ignored.
template <class T>
Case<T> random_case(int64_t rows, int64_t width, int64_t teacher_gap, int64_t student_gap) {
  Random random(static_cast<uint64_t>(width));
  Case<T> c{{rows, width, width + teacher_gap, width + student_gap}, {}, {}, {}};
  c.teacher = random.reals<T>(rows * c.size.teacher_stride - teacher_gap, 12.0f);
  c.student = random.reals<T>(rows * c.size.student_stride - student_gap, 12.0f);
  for (int64_t row = 0; row < rows; ++row) {
    c.targets.push_back(row % 5 == 3 ? kIgnoredTarget : random.integer(0, width));
  }
  return c;
}

template <class T>
using Results = std::tuple<std::vector<T>, std::vector<float>>;

template <bool kReverse, int W, class T>
float formula(const T* t, T* s, int64_t n, const KlTerms& terms, bool gradient) {
  const Distribution p = distribution(ordered_softmax<W>(t, n, terms.scale), terms.scale);
  const Distribution q = distribution(ordered_softmax<W>(s, n, terms.scale), terms.scale);
  const auto element = [&](int64_t j) { return pair(widen(t[j]), widen(s[j]), p, q); };
  const float divergence =
      ordered_sum<W>(n, [&](int64_t j) { return divergence_term<kReverse>(element(j)); });
  for (int64_t j = 0; gradient && j < n; ++j) {
    s[j] = narrow<T>(
        divergence_gradient<kReverse>(element(j), divergence, terms.factor * terms.scale));
  }
  return divergence;
}

// The formula, a row at a time.
template <class T>
Results<T> expected(const Case<T>& c, const KlTerms& terms, bool gradient, bool targets) {
  std::vector<T> student = c.student;
  std::vector<float> divergence;
  const int64_t n = c.size.width;
  const auto of_row = is_narrow(n)    ? terms.reverse ? formula<true, 32, T> : formula<false, 32, T>
                         : terms.reverse ? formula<true, 256, T>
                                      : formula<false, 256, T>;
  for (int64_t row = 0; row < c.size.rows; ++row) {
    const T* const t = c.teacher.data() + row * c.size.teacher_stride;
    T* const s = student.data() + row * c.size.student_stride;
    if (targets && c.targets[static_cast<std::size_t>(row)] == kIgnoredTarget) {
      divergence.push_back(0);
      for (int64_t j = 0; gradient && j < n; ++j) s[j] = narrow<T>(0);
    } else {
      divergence.push_back(of_row(t, s, n, terms, gradient));
    }
  }
  return {same_nans(student), same_nans(divergence)};
}

template <class T>
void check(const Case<T>& c, Shifts shift = 0, bool targets = true) {
  for (const bool reverse : {false, true}) {
    for (const bool gradient : {true, false}) {
      const KlTerms terms{0.75f, 1.5f, reverse};
      const auto got = in_every_schedule([&] {
        const Buffer<T> teacher(c.teacher, shift(0)), student(c.student, shift(1));
        const Buffer<int64_t> of_rows(c.targets);
        const Buffer<float> divergence(c.size.rows);
        const int64_t* const target = targets ? of_rows.data() : nullptr;
        if (gradient) {
          launch_kl_gradient<T>(teacher.data(), student.data(), target, divergence.data(), c.size,
                                terms, nullptr);
        } else {
          launch_kl<T>(teacher.data(), student.data(), target, divergence.data(), c.size, terms,
                       nullptr);
        }
        EXPECT_TRUE(same_bits(teacher.values(), c.teacher));
        return Results<T>(same_nans(student.values()), same_nans(divergence.values()));
      });
      EXPECT_TRUE(same_bits(got, expected(c, terms, gradient, targets)))
          << c.size.rows << " x " << c.size.width << ", strides " << c.size.teacher_stride << " "
          << c.size.student_stride << ", " << shift << ", gradient " << gradient << ", reverse "
          << reverse;
    }
  }
}

template <class T>
class KlTest : public KernelTest {};
using Types = ::testing::Types<float, BFloat16>;
TYPED_TEST_SUITE(KlTest, Types);

TYPED_TEST(KlTest, IsTheFormulaAtEveryWidth) {
  for (const int64_t width : {1, 31, 32, 33, 257, 1023, 1024, 1025, 2049}) {
    check(random_case<TypeParam>(width > 1000 ? 1 : 2, width, 0, 0));
  }
}

TYPED_TEST(KlTest, MoreRowsThanABlockTakes) { check(random_case<TypeParam>(10, 17, 0, 0)); }

TYPED_TEST(KlTest, BlocksTakeRowsOneAfterTheOther) {
  const FewBlocks few(1);
  check(random_case<TypeParam>(27, 17, 0, 0));
  check(random_case<TypeParam>(4, 1032, 0, 0));
}

TYPED_TEST(KlTest, RowsMayLieApart) {
  // With a gap of 7 rows of 2049 start at multiples of 16 bytes, though their ends are odd.
  check(random_case<TypeParam>(2, 2049, 7, 7));
  check(random_case<TypeParam>(2, 1025, 7, 6));
  check(random_case<TypeParam>(5, 33, 0, 7));
}

TYPED_TEST(KlTest, RowsMayStartAnywhere) {
  for (const int64_t shift : {1, 2}) {
    check(random_case<TypeParam>(1, 1032, 0, 0), shift);
    check(random_case<TypeParam>(2, 64, 0, 0), shift);
  }
  for (const int only : {0, 1}) {
    check(random_case<TypeParam>(1, 1032, 0, 0), {1, only});
    check(random_case<TypeParam>(2, 64, 0, 0), {1, only});
  }
}

TYPED_TEST(KlTest, WithoutTargetsEveryRowTakesPart) {
  for (const int64_t width : {40, 1100}) check(random_case<TypeParam>(4, width, 0, 0), 0, false);
}

// Each of the values in a teacher's row, a student's, and in the same place of both; then a
// teacher's row of -inf, both, and a student's.
template <class T>
Case<T> special_case(const std::vector<float>& values, int64_t width) {
  const auto count = static_cast<int64_t>(values.size());
  Case<T> c = random_case<T>(3 * count + 3, width, 0, 0);
  const auto put = [&](std::vector<T>& logits, int64_t row, int64_t column, float value) {
    logits[static_cast<std::size_t>(row * width + column)] = narrow<T>(value);
  };
  for (int64_t i = 0; i < count; ++i) {
    const float value = values[static_cast<std::size_t>(i)];
    for (const int64_t row : {i, 2 * count + i}) put(c.teacher, row, width / 2, value);
    for (const int64_t row : {count + i, 2 * count + i}) put(c.student, row, width / 2, value);
  }
  for (int64_t j = 0; j < width; ++j) {
    for (const int64_t row : {3 * count, 3 * count + 1}) put(c.teacher, row, j, -kInf);
    for (const int64_t row : {3 * count + 1, 3 * count + 2}) put(c.student, row, j, -kInf);
  }
  return c;
}

TYPED_TEST(KlTest, SpecialValues) {
  const std::vector<float> values = {kNan, kInf, -kInf, 0x1p-149f, 3e38f, kLowest};
  Case<TypeParam> c = special_case<TypeParam>(values, 9);
  check(c, 0, false);
  std::fill(c.targets.begin(), c.targets.end(), kIgnoredTarget);
  check(c);
  check(special_case<TypeParam>({-kInf}, 1030), 0, false);
}

TYPED_TEST(KlTest, NoRowsAreNoWork) {
  launch_kl<TypeParam>(nullptr, nullptr, nullptr, nullptr, {0, 5, 5, 5}, {}, nullptr);
}

}  // namespace
}  // namespace rev::cuda
