// The grid's kernels against plain loops over grid_math.h, bit by bit.
#include "cuda/grid.h"

#include <algorithm>
#include <limits>
#include <tuple>
#include <vector>

#include "cuda/grid_math.h"
#include "cuda/support/kernel_test.h"
#include "cuda/support/numbers.h"

namespace rev::cuda {
namespace {

using namespace testing;

constexpr float kScale = 45875.2f;  // 0.7 2^16
constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// How many elements beyond an aligned address the operands start.
struct Shifts {
  int64_t y, x, f;
};
constexpr Shifts kShifts[] = {{0, 0, 0}, {1, 1, 1}, {2, 2, 2}, {3, 3, 3},
                              {1, 0, 0}, {0, 1, 0}, {0, 0, 1}};

// Which members of a Probe are given.
enum Asked : unsigned { kNothing = 0, kBefore = 1, kAfter = 2, kFlag = 4, kEverything = 7 };

constexpr int64_t kNotAsked = -1;  // what Buffers hold that no kernel wrote

std::vector<int64_t> plain_sums(const std::vector<int32_t>& cells, Size size) {
  std::vector<int64_t> sums;
  for (int64_t row = 0; row < size.rows; ++row) {
    uint64_t sum = 0;
    for (int64_t j = 0; j < size.width; ++j) {
      const auto word =
          static_cast<uint32_t>(cells[static_cast<std::size_t>(row * size.width + j)]);
      sum += uint64_t{grid::weight(static_cast<uint32_t>(j))} * word;
    }
    sums.push_back(static_cast<int64_t>(sum));
  }
  return sums;
}

// A state and what is done to it: `launch(y, rows, probe)` queues the kernel and returns a vector
// that it changes beside the cells; `step(cell, i, out)` is what is expected of element i, and
// `beside` what is expected of that vector after all steps.
struct Case {
  Size size;
  int64_t shift;
  unsigned asked;
  std::vector<int32_t> cells;
};

template <class Launch, class Step, class D>
void expect_steps(const Case& is, const Launch& launch, const Step& step,
                  const std::vector<D>& beside) {
  const Rows rows{is.size.rows, is.size.width};
  auto want = is.cells;
  uint32_t out = 0;
  for (std::size_t i = 0; i < want.size(); ++i) want[i] = step(want[i], i, out);
  const std::vector<int64_t> unasked(static_cast<std::size_t>(rows.rows), kNotAsked);
  const std::vector<int32_t> flag = {(is.asked & kFlag) != 0 ? static_cast<int32_t>(out) : 0};
  const auto expected =
      std::tuple(want, (is.asked & kBefore) != 0 ? plain_sums(is.cells, is.size) : unasked,
                 (is.asked & kAfter) != 0 ? plain_sums(want, is.size) : unasked, flag, beside);
  const auto got = in_every_schedule([&] {
    const Buffer<int32_t> y(is.cells, is.shift), saturated(std::vector<int32_t>{0});
    const Buffer<int64_t> before(rows.rows), after(rows.rows);
    const auto changed = launch(y.data(), rows,
                                Probe{(is.asked & kBefore) != 0 ? before.data() : nullptr,
                                      (is.asked & kAfter) != 0 ? after.data() : nullptr,
                                      (is.asked & kFlag) != 0 ? saturated.data() : nullptr});
    return std::tuple(y.values(), before.values(), after.values(), saturated.values(), changed);
  });
  EXPECT_TRUE(same_bits(got, expected))
      << is.size << ", shift " << is.shift << ", asked " << is.asked;
}

// Calls test(size, shifts, asked) for every size and shift with all that can be asked for, and for
// two sizes with everything else.
template <class Test>
void for_all(const Test& test) {
  for (const Size size : kRowSizes) {
    for (const Shifts& shifts : kShifts) test(size, shifts, kEverything);
  }
  for (unsigned asked = kNothing; asked < kEverything; ++asked) {
    for (const Size size : {Size{9, 32}, Size{3, 33}}) test(size, kShifts[0], asked);
  }
  const FewBlocks few(2);
  for (const Size size : {Size{35, 33}, Size{50, 32}}) test(size, kShifts[0], kEverything);
}

const std::vector<int32_t> kNoneBeside;

template <class F>
class GridFieldTest : public KernelTest {};
using FieldTypes = ::testing::Types<float, BFloat16>;
TYPED_TEST_SUITE(GridFieldTest, FieldTypes);

// The three updates by a field, on a state of its own.
template <class F>
struct Fields {
  Fields(Size size, uint64_t seed)
      : cells(Random(seed).integers(size.rows * size.width, -(1 << 29), 1 << 29)),
        mirror(Random(seed + 1).integers(size.rows * size.width, -(1 << 28), 1 << 28)),
        f(Random(seed + 2).reals<F>(size.rows * size.width, 3.0f)) {}

  void expect_update(Size size, const Shifts& shifts, unsigned asked, float scale = kScale) const {
    const Buffer<F> field(f, shifts.f);
    expect_steps(
        Case{size, shifts.y, asked, cells},
        [&](int32_t* y, Rows rows, const Probe& probe) {
          launch_update(y, field.data(), scale, rows, probe, nullptr);
          return kNoneBeside;
        },
        [&](int32_t cell, std::size_t i, uint32_t& out) {
          return grid::update(cell, widen(f[i]), scale, out);
        },
        kNoneBeside);
  }

  void expect_reflect(Size size, const Shifts& shifts, unsigned asked) const {
    const Buffer<F> field(f, shifts.f);
    const Buffer<int32_t> x(mirror, shifts.x);
    expect_steps(
        Case{size, shifts.y, asked, cells},
        [&](int32_t* y, Rows rows, const Probe& probe) {
          launch_reflect(y, x.data(), field.data(), kScale, rows, probe, nullptr);
          return kNoneBeside;
        },
        [&](int32_t cell, std::size_t i, uint32_t& out) {
          return grid::reflect(cell, mirror[i], widen(f[i]), kScale, out);
        },
        kNoneBeside);
  }

  void expect_blend(Size size, const Shifts& shifts, unsigned asked) const {
    const float b = -0.37f;
    const Buffer<F> field(f, shifts.f);
    const Buffer<int32_t> x(mirror, shifts.x);
    expect_steps(
        Case{size, shifts.y, asked, cells},
        [&](int32_t* y, Rows rows, const Probe& probe) {
          launch_blend(y, x.data(), b, field.data(), kScale, rows, probe, nullptr);
          return kNoneBeside;
        },
        [&](int32_t cell, std::size_t i, uint32_t& out) {
          return grid::blend(cell, mirror[i], b, widen(f[i]), kScale, out);
        },
        kNoneBeside);
  }

  std::vector<int32_t> cells, mirror;
  std::vector<F> f;
};

TYPED_TEST(GridFieldTest, Update) {
  for_all([](Size size, const Shifts& shifts, unsigned asked) {
    Fields<TypeParam>(size, 1).expect_update(size, shifts, asked);
  });
}

TYPED_TEST(GridFieldTest, Reflect) {
  for_all([](Size size, const Shifts& shifts, unsigned asked) {
    Fields<TypeParam>(size, 2).expect_reflect(size, shifts, asked);
  });
}

TYPED_TEST(GridFieldTest, Blend) {
  for_all([](Size size, const Shifts& shifts, unsigned asked) {
    Fields<TypeParam>(size, 3).expect_blend(size, shifts, asked);
  });
}

// One element that leaves the range, or is not a number, wherever it lies: the flag is 1.
TYPED_TEST(GridFieldTest, OneBadElementSetsTheFlag) {
  for (const Size size : {Size{3, 40}, Size{2, 33}}) {
    for (const std::size_t where : {std::size_t{0}, std::size_t{7}, size.count() - 1}) {
      for (const float bad : {kNan, kInfinity, -kInfinity, 1e30f, -40000.0f}) {
        Fields<TypeParam> fields(size, 4);
        fields.f[where] = narrow<TypeParam>(bad);
        fields.expect_update(size, kShifts[0], kFlag);
        fields.expect_reflect(size, kShifts[0], kFlag);
        fields.expect_blend(size, kShifts[0], kFlag);
      }
      Fields<TypeParam> fields(size, 5);
      fields.cells[where] = std::numeric_limits<int32_t>::max();  // the sum leaves the range
      fields.f[where] = narrow<TypeParam>(1.0f);
      fields.expect_update(size, kShifts[0], kFlag);
      fields.expect_update(size, kShifts[0], kFlag, -kScale);  // and here it does not
    }
  }
}

TYPED_TEST(GridFieldTest, UpdatesAreUndone) {
  for (const Size size : {Size{9, 32}, Size{3, 33}}) {
    Fields<TypeParam> fields(size, 6);
    for (TypeParam& f : fields.f) f = narrow<TypeParam>(1000.0f * widen(f));  // some saturate
    const Rows rows{size.rows, size.width};
    const auto cells = in_every_schedule([&] {
      const Buffer<int32_t> y(fields.cells), x(fields.mirror);
      const Buffer<TypeParam> f(fields.f);
      for (const float sign : {1.0f, -1.0f}) {
        launch_update(y.data(), f.data(), sign * kScale, rows, {}, nullptr);
      }
      for (const float sign : {1.0f, -1.0f}) {
        launch_blend(y.data(), x.data(), sign * 0.3f, f.data(), sign * kScale, rows, {}, nullptr);
      }
      for (int time = 0; time < 2; ++time) {
        launch_reflect(y.data(), x.data(), f.data(), kScale, rows, {}, nullptr);
      }
      return y.values();
    });
    EXPECT_TRUE(same_bits(cells, fields.cells)) << size;
  }
}

template <class D>
class GridDigitTest : public KernelTest {};
using DigitTypes = ::testing::Types<uint32_t, uint64_t>;
TYPED_TEST_SUITE(GridDigitTest, DigitTypes);

// `scale` where kUndo is false, else `unscale`.
template <bool kUndo, class D>
void expect_scale(Size size, const Shifts& shifts, unsigned asked, const Ratio& a,
                  std::vector<int32_t> cells) {
  Random random(7);
  std::vector<D> digits;
  // Below 2^24, so that digits of 32 bits hold what comes to them.
  for (std::size_t i = 0; i < cells.size(); ++i)
    digits.push_back(static_cast<D>(random.integer(0, 1 << 24)));
  std::vector<D> digits_after = digits;
  const auto step = [&](int32_t cell, std::size_t i, uint32_t& out) {
    uint64_t d = digits[i];
    if (kUndo && a.negative) cell = grid::negate(cell, out);
    cell = grid::rescale(cell, d, kUndo ? a.m : a.n, kUndo ? a.n : a.m, out);
    if (!kUndo && a.negative) cell = grid::negate(cell, out);
    digits_after[i] = static_cast<D>(d);
    return cell;
  };
  uint32_t out = 0;
  for (std::size_t i = 0; i < cells.size(); ++i) step(cells[i], i, out);
  expect_steps(
      Case{size, shifts.y, asked, std::move(cells)},
      [&](int32_t* y, Rows rows, const Probe& probe) {
        const Buffer<D> buffer(digits, shifts.f);
        if constexpr (kUndo) {
          launch_unscale(y, buffer.data(), a, rows, probe, nullptr);
        } else {
          launch_scale(y, buffer.data(), a, rows, probe, nullptr);
        }
        return buffer.values();
      },
      step, digits_after);
}

constexpr Ratio kRatios[] = {{5, 4, false}, {13, 16, true}};

TYPED_TEST(GridDigitTest, Scale) {
  for_all([](Size size, const Shifts& shifts, unsigned asked) {
    const auto cells = Random(8).integers(size.rows * size.width, -(1 << 29), 1 << 29);
    const Ratio& a = kRatios[size.width % 2];
    expect_scale<false, TypeParam>(size, shifts, asked, a, cells);
  });
}

TYPED_TEST(GridDigitTest, Unscale) {
  for_all([](Size size, const Shifts& shifts, unsigned asked) {
    const auto cells = Random(9).integers(size.rows * size.width, -(1 << 29), 1 << 29);
    const Ratio& a = kRatios[size.width % 2];
    expect_scale<true, TypeParam>(size, shifts, asked, a, cells);
  });
}

TYPED_TEST(GridDigitTest, EitherSignOfEitherSize) {
  for (const Size size : {Size{2, 32}, Size{2, 33}}) {
    const auto cells = Random(10).integers(size.rows * size.width, -(1 << 29), 1 << 29);
    for (const bool negative : {false, true}) {
      for (Ratio a : kRatios) {
        a.negative = negative;
        expect_scale<false, TypeParam>(size, kShifts[0], kEverything, a, cells);
        expect_scale<true, TypeParam>(size, kShifts[0], kEverything, a, cells);
      }
    }
  }
}

TYPED_TEST(GridDigitTest, OneCellThatLeavesTheRangeSetsTheFlag) {
  for (const Size size : {Size{3, 40}, Size{2, 33}}) {
    for (const std::size_t where : {std::size_t{0}, std::size_t{7}, size.count() - 1}) {
      auto cells = Random(11).integers(size.rows * size.width, -1000, 1000);
      cells[where] = 1 << 30;
      expect_scale<false, TypeParam>(size, kShifts[0], kFlag, Ratio{2, 1, false}, cells);
      expect_scale<true, TypeParam>(size, kShifts[0], kFlag, Ratio{1, 2, false}, cells);
      expect_scale<false, TypeParam>(size, kShifts[0], kFlag, Ratio{1, 2, false}, cells);
      cells[where] = std::numeric_limits<int32_t>::min();  // has no negative
      expect_scale<false, TypeParam>(size, kShifts[0], kFlag, Ratio{1, 1, true}, cells);
      expect_scale<true, TypeParam>(size, kShifts[0], kFlag, Ratio{1, 1, true}, cells);
    }
  }
}

TYPED_TEST(GridDigitTest, ScalesAreUndoneInReverse) {
  constexpr Ratio kMany[] = {{5, 4, false}, {13, 16, true}, {256, 205, false}, {1, 8, true}};
  for (const Size size : {Size{9, 32}, Size{3, 33}}) {
    const auto cells = Random(12).integers(size.rows * size.width, -(1 << 28), 1 << 28);
    const std::vector<TypeParam> none(cells.size(), 0);
    const Rows rows{size.rows, size.width};
    const auto undone = in_every_schedule([&] {
      const Buffer<int32_t> y(cells), flag(std::vector<int32_t>{0});
      const Buffer<TypeParam> digits(none);
      const Probe probe{nullptr, nullptr, flag.data()};
      for (const Ratio& a : kMany) launch_scale(y.data(), digits.data(), a, rows, probe, nullptr);
      EXPECT_FALSE(same_bits(y.values(), cells));
      for (auto a = std::rbegin(kMany); a != std::rend(kMany); ++a) {
        launch_unscale(y.data(), digits.data(), *a, rows, probe, nullptr);
      }
      return std::tuple(y.values(), digits.values(), flag.values());
    });
    EXPECT_TRUE(same_bits(undone, std::tuple(cells, none, std::vector<int32_t>{0}))) << size;
  }
}

class GridTest : public KernelTest {};

constexpr int32_t kLeast = std::numeric_limits<int32_t>::min();  // has no negative

void expect_sign(bool negative, Size size, const Shifts& shifts, unsigned asked,
                 const std::vector<int32_t>& cells) {
  expect_steps(
      Case{size, shifts.y, asked, cells},
      [&](int32_t* y, Rows rows, const Probe& probe) {
        launch_sign(y, negative, rows, probe, nullptr);
        return kNoneBeside;
      },
      [&](int32_t cell, std::size_t, uint32_t& out) {
        return negative ? grid::negate(cell, out) : cell;
      },
      kNoneBeside);
}

TEST_F(GridTest, Sign) {
  for_all([](Size size, const Shifts& shifts, unsigned asked) {
    const auto cells = Random(13).integers(size.rows * size.width, kLeast + 1, -(kLeast + 1));
    expect_sign(true, size, shifts, asked, cells);
  });
  for (const Size size : {Size{9, 32}, Size{3, 33}}) {
    auto cells = Random(13).integers(size.rows * size.width, kLeast + 1, -(kLeast + 1));
    expect_sign(false, size, kShifts[0], kEverything, cells);
    cells.back() = kLeast;
    expect_sign(false, size, kShifts[0], kEverything, cells);
    expect_sign(true, size, kShifts[0], kEverything, cells);
  }
}

void expect_encode(float scale, Size size, const Shifts& shifts, unsigned asked) {
  const auto values = Random(14).reals<float>(size.rows * size.width, 100.0f);
  const Buffer<float> x(values, shifts.x);
  // The state before has no meaning: its row sums are not asked for.
  expect_steps(
      Case{size, shifts.y, asked & ~kBefore, std::vector<int32_t>(values.size(), -1)},
      [&](int32_t* y, Rows rows, const Probe& probe) {
        launch_encode(y, x.data(), scale, rows, probe, nullptr);
        return kNoneBeside;
      },
      [&](int32_t, std::size_t i, uint32_t& out) { return grid::to_cell(values[i] * scale, out); },
      kNoneBeside);
}

TEST_F(GridTest, Encode) {
  for_all([](Size size, const Shifts& shifts, unsigned asked) {
    expect_encode(65536.0f, size, shifts, asked);
  });
  for (const float scale : {1e9f, kNan}) {
    for (const Size size : {Size{9, 32}, Size{3, 33}}) {
      expect_encode(scale, size, kShifts[0], kEverything);
    }
  }
}

void expect_decode(int64_t n, int64_t shift_x, int64_t shift_y) {
  const auto cells = Random(15).integers(n, std::numeric_limits<int32_t>::min(),
                                         std::numeric_limits<int32_t>::max());
  std::vector<float> want;
  for (const int32_t cell : cells) want.push_back(static_cast<float>(cell) * 0.3f);
  const auto got = in_every_schedule([&] {
    const Buffer<float> x(n, shift_x);
    const Buffer<int32_t> y(cells, shift_y);
    launch_decode(x.data(), y.data(), 0.3f, n, nullptr);
    return x.values();
  });
  EXPECT_TRUE(same_bits(got, want)) << n << ", shifts " << shift_x << ", " << shift_y;
}

TEST_F(GridTest, Decode) {
  for (const int64_t n : kSizes) {
    for (int64_t shift = 0; shift < 4; ++shift) expect_decode(n, shift, shift);
    expect_decode(n, 1, 0);
    expect_decode(n, 0, 1);
  }
  const FewBlocks few(2);
  expect_decode(5000, 0, 0);
  expect_decode(1301, 0, 0);
}

TEST_F(GridTest, RowSums) {
  const auto expect_sums = [](Size size, int64_t shift) {
    const auto words =
        Random(16).integers(size.rows * size.width, std::numeric_limits<int32_t>::min(),
                            std::numeric_limits<int32_t>::max());
    const auto got = in_every_schedule([&] {
      const Buffer<int32_t> y(words, shift);
      const Buffer<int64_t> sums(size.rows);
      launch_row_sums(sums.data(), y.data(), {size.rows, size.width}, nullptr);
      return std::tuple(sums.values(), y.values());
    });
    EXPECT_TRUE(same_bits(got, std::tuple(plain_sums(words, size), words))) << size;
  };
  for (const Size size : kRowSizes) {
    for (int64_t shift = 0; shift < 4; ++shift) expect_sums(size, shift);
  }
  const FewBlocks few(2);
  expect_sums({35, 33}, 0);
}

TEST_F(GridTest, FlagsOfOthersAreLeftAlone) {
  const Buffer<int32_t> y(std::vector<int32_t>{1, 2, 3}), flag(std::vector<int32_t>{1});
  const Buffer<float> f(std::vector<float>{1, 1, 1});
  launch_update(y.data(), f.data(), 1.0f, {1, 3}, {nullptr, nullptr, flag.data()}, nullptr);
  EXPECT_TRUE(same_bits(flag.values(), {1}));
}

TEST_F(GridTest, NothingIsDoneToNothing) {
  const Buffer<int32_t> y(0);
  const Buffer<float> f(0);
  const Buffer<int64_t> sums(3);
  const Probe probe{sums.data(), nullptr, nullptr};
  launch_update(y.data(), f.data(), 1.0f, {0, 5}, probe, nullptr);
  launch_update(y.data(), f.data(), 1.0f, {3, 0}, probe, nullptr);
  launch_decode(f.data(), y.data(), 1.0f, 0, nullptr);
  EXPECT_TRUE(same_bits(sums.values(), std::vector<int64_t>(3, kNotAsked)));
}

}  // namespace
}  // namespace rev::cuda
