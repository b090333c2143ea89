#include "cuda/fixed_point.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <tuple>

#include "cuda/fixed_point_math.h"
#include "cuda/low_bits_math.h"
#include "cuda/support/kernel_test.h"
#include "cuda/support/numbers.h"

namespace rev::cuda {
namespace {

using namespace testing;

class FixedPointTest : public KernelTest {};

constexpr float kScale = -65536.0f;

TEST(FixedPointMathTest, DistancesReachAcrossTheWholeRange) {
  constexpr int32_t kMost = std::numeric_limits<int32_t>::max(), kLeast = -kMost - 1;
  EXPECT_EQ(distance(kLeast, kMost), 4294967295u);
  EXPECT_EQ(distance(kMost, kLeast), 4294967295u);
  EXPECT_EQ(distance(-3, 4), 7u);
  EXPECT_EQ(distance(4, -3), 7u);
  EXPECT_EQ(distance(5, 5), 0u);
}

// Every other row or so of a state with `tokens` more rows than there are tokens.
std::vector<int64_t> index_of(int64_t n, int64_t rows) {
  std::vector<int64_t> index;
  for (int64_t i = 0; i < n; ++i) index.push_back(i * rows / n);
  return index;
}

void expect_gathered(Size size, Shifts shift) {
  const int64_t rows = 2 * size.rows;
  const auto x = Random(1).integers(rows * size.width, -(1 << 30), 1 << 30);
  const auto index = index_of(size.rows, rows);
  std::vector<float> want;
  for (const int64_t row : index) {
    for (int64_t j = 0; j < size.width; ++j) {
      want.push_back(static_cast<float>(x[static_cast<std::size_t>(row * size.width + j)]) *
                     0x1p-16f);
    }
  }
  const auto got = in_every_schedule([&] {
    const Buffer<int32_t> from(x, shift(0));
    const Buffer<int64_t> rows_of(index);
    const Buffer<float> values(size.rows * size.width, shift(1));
    launch_gather_cells(values.data(), from.data(), rows_of.data(), 0x1p-16f,
                        {size.rows, size.width}, nullptr);
    return values.values();
  });
  EXPECT_TRUE(same_bits(got, want)) << size << ", " << shift;
}

TEST_F(FixedPointTest, GathersValuesOfRows) {
  for (const Size size : kRowSizes) {
    for (int64_t shift = 0; shift < 2; ++shift) expect_gathered(size, shift);
  }
  for (const int only : {0, 1}) expect_gathered({2, 40}, {1, only});
  for (const unsigned blocks : {1u, 2u}) {
    const FewBlocks few(blocks);
    for (const int64_t width : {33, 40}) expect_gathered({51, width}, 0);
  }
}

struct Stepped {
  std::vector<int32_t> x;
  std::vector<int64_t> index, moved, record;
};

// A step by plain loops.
template <class F>
Stepped step(std::vector<int32_t> x, const std::vector<int32_t>& y, const std::vector<F>& f,
             int64_t width, const std::vector<int64_t>& index, const std::vector<int64_t>& moved,
             const FixedPointMoves& moves) {
  Stepped after;
  after.record = {0, 0, 0};
  uint32_t out = 0;
  for (std::size_t i = 0; i < index.size(); ++i) {
    int64_t move = 0;
    for (int64_t j = 0; j < width; ++j) {
      const auto cell = static_cast<std::size_t>(index[i] * width + j);
      const float increment =
          widen(f[i * static_cast<std::size_t>(width) + static_cast<std::size_t>(j)]);
      const int32_t next = grid::update(y[cell], increment, kScale, out);
      move = std::max(move, std::abs(int64_t{next} - int64_t{x[cell]}));
      x[cell] = next;
    }
    if (!moved.empty() && moved[i] > moves.noise) {
      after.record[1] += moved[i];
      after.record[2] += move;
    }
    if (move <= moves.settled) continue;
    ++after.record[0];
    after.index.push_back(index[i]);
    after.moved.push_back(move);
  }
  after.x = std::move(x);
  return after;
}

template <class F>
void expect_steps(Size size, bool first, Shifts shift, unsigned most_slices = kMostSlices) {
  const int64_t n = size.rows, rows = n + n / 2 + 1, width = size.width;
  Random random(7);
  const auto y = random.integers(rows * width, -(1 << 30), 1 << 30);
  const auto f = random.reals<F>(n * width, 0.5f);
  const auto index = index_of(n, rows);
  // Near what the step will give: tokens settle or not. A few start far away.
  auto x = y;
  uint32_t out = 0;
  for (int64_t i = 0; i < n; ++i) {
    const int64_t reach = i % 3 == 0 ? 2 : i % 7 == 1 ? int64_t{1} << 31 : 40;
    for (int64_t j = 0; j < width; ++j) {
      const auto cell = static_cast<std::size_t>(index[static_cast<std::size_t>(i)] * width + j);
      const float increment = widen(f[static_cast<std::size_t>(i * width + j)]);
      x[cell] = static_cast<int32_t>(static_cast<uint32_t>(
          grid::update(y[cell], increment, kScale, out) + random.integer(-reach, reach + 1)));
    }
  }
  std::vector<int64_t> moved;
  for (int64_t i = 0; i < n; ++i) moved.push_back(random.integer(0, 60));
  const FixedPointMoves moves{2, 32};
  const Stepped want = step(x, y, f, width, index, first ? std::vector<int64_t>() : moved, moves);

  const auto got = in_every_schedule([&] {
    const Buffer<int32_t> states(x, shift(0)), constants(y, shift(1));
    const Buffer<F> field(f, shift(2));
    const Buffer<int64_t> tokens(index), before(moved);
    const Buffer<int64_t> next(n), next_moved(n), record(3), scratch(fixed_point_scratch(n));
    launch_fixed_point_step(states.data(), constants.data(), field.data(), kScale, width,
                            {tokens.data(), first ? nullptr : before.data(), n}, moves,
                            {next.data(), next_moved.data(), record.data(), scratch.data()},
                            nullptr, most_slices);
    auto left = next.values(), left_moved = next_moved.values();
    const auto found = record.values();
    left.resize(static_cast<std::size_t>(found[0]));
    left_moved.resize(static_cast<std::size_t>(found[0]));
    return std::tuple(states.values(), left, left_moved, found);
  });
  EXPECT_TRUE(same_bits(got, std::tuple(want.x, want.index, want.moved, want.record)))
      << size << ", " << shift << ", first " << first;
}

TEST_F(FixedPointTest, AStepMovesTokensAndListsThoseThatHaveNotSettledInTheirOrder) {
  for (const Size size : kRowSizes) {
    for (const bool first : {true, false}) {
      for (int64_t shift = 0; shift < 2; ++shift) {
        expect_steps<float>(size, first, shift);
        expect_steps<BFloat16>(size, first, shift);
      }
    }
  }
}

TEST_F(FixedPointTest, AnyPointerMayBeTheOneThatIsNotAligned) {
  for (int only = 0; only < 3; ++only) {
    expect_steps<float>({3, 40}, false, {1, only});
    expect_steps<BFloat16>({3, 40}, false, {1, only});
  }
}

TEST_F(FixedPointTest, ManyTokensKeepTheirOrderAcrossBlocks) {
  // Slices of one, of some, and of more tokens than a block looks at at a time.
  for (const int64_t n : {255, 1025}) {
    for (const unsigned most_slices : {kMostSlices, 3u, 1u}) {
      expect_steps<float>({n, 2}, false, 0, most_slices);
    }
  }
}

TEST_F(FixedPointTest, NoTokensLeaveNone) {
  const Buffer<int32_t> state(std::vector<int32_t>{1, 2, 3, 4});
  const Buffer<float> field(0);
  const Buffer<int64_t> none(0), record(3), scratch(fixed_point_scratch(0));
  launch_fixed_point_step(state.data(), state.data(), field.data(), kScale, 4,
                          {none.data(), nullptr, 0}, {1, 16},
                          {none.data(), none.data(), record.data(), scratch.data()}, nullptr);
  EXPECT_TRUE(same_bits(record.values(), {0, 0, 0}));
}

template <class F>
void expect_corrections(Size size, int count, Shifts shift) {
  const int64_t n = size.rows * size.width;
  Random random(9);
  const auto x = random.integers(n, -(1 << 30), 1 << 30);
  const auto y = random.integers(n, -(1 << 30), 1 << 30);
  const auto f = random.reals<F>(n, 3);
  std::vector<uint8_t> packed;
  for (int64_t i = 0; i < packed_bytes(n, count); ++i) {
    packed.push_back(static_cast<uint8_t>(random.integer(0, 256)));
  }
  std::vector<int64_t> sums, expected;
  for (int64_t row = 0; row < size.rows; ++row) {
    sums.push_back(random.integer(0, 1 << 30));
    expected.push_back(row % 3 == 1 ? sums.back() : -1);
  }
  auto want = x;
  auto want_sums = sums;
  uint32_t out = 0;
  for (int64_t row = 0; row < size.rows; ++row) {
    const auto r = static_cast<std::size_t>(row);
    if (sums[r] == expected[r]) continue;
    uint64_t sum = 0;
    for (int64_t j = 0; j < size.width; ++j) {
      const int64_t at = row * size.width + j;
      const auto i = static_cast<std::size_t>(at);
      const int32_t near = grid::update(y[i], widen(f[i]), kScale, out);
      want[i] = nearest_cell(near, packed_at(packed.data(), at, count), count);
      sum += uint64_t{grid::weight(static_cast<uint32_t>(j))} * static_cast<uint32_t>(want[i]);
    }
    want_sums[r] = static_cast<int64_t>(sum);
  }
  const auto got = in_every_schedule([&] {
    const Buffer<int32_t> states(x, shift(0)), constants(y, shift(1));
    const Buffer<F> field(f, shift(2));
    const Buffer<uint8_t> bits(packed);
    const Buffer<int64_t> right(expected), found(sums);
    launch_correct_cells(states.data(), constants.data(), field.data(), kScale, bits.data(), count,
                         {size.rows, size.width}, right.data(), found.data(), nullptr);
    return std::tuple(states.values(), found.values());
  });
  EXPECT_TRUE(same_bits(got, std::tuple(want, want_sums)))
      << size << ", " << count << " bits, " << shift;
}

TEST_F(FixedPointTest, CorrectsTheRefutedRowsAlone) {
  for (const Size size : kRowSizes) {
    for (const int count : {1, 2, 4, 8, 16}) {
      for (int64_t shift = 0; shift < 2; ++shift) {
        expect_corrections<float>(size, count, shift);
        expect_corrections<BFloat16>(size, count, shift);
      }
    }
  }
  for (int only = 0; only < 3; ++only) {
    expect_corrections<float>({2, 40}, 4, {1, only});
    expect_corrections<BFloat16>({2, 40}, 4, {1, only});
  }
  for (const unsigned blocks : {1u, 2u}) {
    const FewBlocks few(blocks);
    for (const int64_t width : {33, 40}) expect_corrections<float>({51, width}, 2, 0);
  }
}

}  // namespace
}  // namespace rev::cuda
