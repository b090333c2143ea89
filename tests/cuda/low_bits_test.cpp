#include "cuda/low_bits.h"

#include <limits>
#include <tuple>

#include "cuda/low_bits_math.h"
#include "cuda/support/kernel_test.h"
#include "cuda/support/numbers.h"

namespace rev::cuda {
namespace {

using namespace testing;

class LowBitsTest : public KernelTest {};

constexpr int kCounts[] = {1, 2, 4, 8, 16};
constexpr int32_t kMost = std::numeric_limits<int32_t>::max();
constexpr int32_t kLeast = std::numeric_limits<int32_t>::min();

// Random cells of all sizes with the extremes among them.
std::vector<int32_t> cells_of(int64_t n, uint64_t seed) {
  Random random(seed);
  std::vector<int32_t> cells(static_cast<std::size_t>(n));
  const int32_t edges[] = {kLeast, kMost, -1, 0, 1, kLeast + 1, -256, 255};
  for (std::size_t i = 0; i < cells.size(); ++i) {
    const auto any = static_cast<int32_t>(random.integer(kLeast, int64_t{kMost} + 1));
    cells[i] = i % 5 == 2 ? edges[i / 5 % 8] : any >> random.integer(0, 32);
  }
  return cells;
}

std::vector<uint8_t> packed_of(const std::vector<int32_t>& cells, int count) {
  std::vector<uint8_t> packed(
      static_cast<std::size_t>(packed_bytes(static_cast<int64_t>(cells.size()), count)));
  for (std::size_t i = 0; i < cells.size(); ++i) {
    for (int b = 0; b < count; ++b) {
      const std::size_t bit = i * static_cast<std::size_t>(count) + static_cast<std::size_t>(b);
      const unsigned value = static_cast<uint32_t>(cells[i]) >> b & 1u;
      packed[bit / 8] = static_cast<uint8_t>(packed[bit / 8] | value << (bit % 8));
    }
  }
  return packed;
}

std::vector<int64_t> sums_of(const std::vector<int32_t>& cells, Size size) {
  std::vector<int64_t> sums;
  for (int64_t row = 0; row < size.rows; ++row) {
    uint64_t sum = 0;
    for (int64_t j = 0; j < size.width; ++j) {
      const auto i = static_cast<std::size_t>(row * size.width + j);
      sum += uint64_t{grid::weight(static_cast<uint32_t>(j))} * static_cast<uint32_t>(cells[i]);
    }
    sums.push_back(static_cast<int64_t>(sum));
  }
  return sums;
}

void expect_packed(int64_t n, int count, Shifts shift) {
  const auto cells = cells_of(n, 1);
  const auto want = packed_of(cells, count);
  const auto got = in_every_schedule([&] {
    const Buffer<int32_t> from(cells, shift(0));
    const Buffer<uint8_t> packed(static_cast<int64_t>(want.size()), shift(1));
    launch_pack_low_bits(packed.data(), from.data(), n, count, nullptr);
    return packed.values();
  });
  EXPECT_TRUE(same_bits(got, want)) << count << " bits of " << n << ", " << shift;
}

TEST_F(LowBitsTest, PacksEveryCellsLowBitsAndZerosBehindThem) {
  for (const int count : kCounts) {
    for (const int64_t n : {1, 3, 7, 8, 31, 32, 33, 257, 1023, 1024, 1025}) {
      for (int64_t shift = 0; shift < 4; ++shift) expect_packed(n, count, shift);
    }
    for (const int only : {0, 1}) expect_packed(64, count, {1, only});
    const FewBlocks few(1);  // which takes 16 cells a thread at most, again and again
    expect_packed(3 * 4096 + 5, count, 0);
  }
}

TEST_F(LowBitsTest, NearestCellIsTheOnlyOneInReachWithTheseBits) {
  for (const int count : kCounts) {
    const int64_t half = int64_t{1} << (count - 1);
    for (const int32_t cell : cells_of(200, 2)) {
      for (const int64_t off : {-half, -half + 1, int64_t{-1}, int64_t{0}, int64_t{1}, half - 1}) {
        if (off < -half || off >= half) continue;
        // The cell lies `off` from near, modulo 2^32.
        const auto near = static_cast<int32_t>(static_cast<uint32_t>(int64_t{cell} - off));
        EXPECT_EQ(nearest_cell(near, static_cast<uint32_t>(cell), count), cell) << count << off;
        // Bits above the low ones are others'.
        const uint32_t low =
            static_cast<uint32_t>(cell) ^ (count == 16 ? 0xabcd0000u : 0xa5u << count);
        EXPECT_EQ(nearest_cell(near, low, count), cell) << count << off;
      }
    }
  }
}

void expect_selected(Size size, int count, Shifts shift) {
  const int64_t n = size.rows * size.width;
  const auto near = cells_of(n, 3);
  const auto packed = packed_of(cells_of(n, 4), count);
  auto want = near;
  for (std::size_t i = 0; i < want.size(); ++i) {
    want[i] =
        nearest_cell(near[i], packed_at(packed.data(), static_cast<int64_t>(i), count), count);
  }
  const auto got = in_every_schedule([&] {
    const Buffer<int32_t> from(near, shift(0)), x(n, shift(1));
    const Buffer<uint8_t> bits(packed, shift(2));
    const Buffer<int64_t> sums(size.rows);
    launch_select_by_low_bits(x.data(), from.data(), bits.data(), count, {size.rows, size.width},
                              sums.data(), nullptr);
    return std::tuple(x.values(), sums.values());
  });
  EXPECT_TRUE(same_bits(got, std::tuple(want, sums_of(want, size))))
      << count << " bits of " << size << ", " << shift;
  // In place, without sums.
  const Buffer<int32_t> x(near);
  const Buffer<uint8_t> bits(packed);
  launch_select_by_low_bits(x.data(), x.data(), bits.data(), count, {size.rows, size.width},
                            nullptr, nullptr);
  EXPECT_TRUE(same_bits(x.values(), want));
}

TEST_F(LowBitsTest, SelectsCellsAndSumsTheirRows) {
  for (const int count : kCounts) {
    for (const Size size : kRowSizes) {
      for (int64_t shift = 0; shift < 2; ++shift) expect_selected(size, count, shift);
    }
    for (int only = 0; only < 3; ++only) expect_selected({2, 64}, count, {1, only});
    for (const unsigned blocks : {1u, 2u}) {
      const FewBlocks few(blocks);
      for (const int64_t width : {33, 64}) expect_selected({51, width}, count, 0);
    }
  }
}

// By plain loops, as the format says.
std::vector<uint32_t> planes_of(const std::vector<int32_t>& cells, Size size, int s) {
  const int64_t groups = plane_groups(size.width);
  std::vector<uint32_t> planes(static_cast<std::size_t>(size.rows * groups * s));
  for (int64_t row = 0; row < size.rows; ++row) {
    for (int64_t j = 0; j < size.width; ++j) {
      for (int p = 0; p < s; ++p) {
        const auto bit =
            static_cast<uint32_t>(cells[static_cast<std::size_t>(row * size.width + j)]) >> p & 1u;
        planes[static_cast<std::size_t>((row * groups + j / 32) * s + p)] |= bit << (j % 32);
      }
    }
  }
  return planes;
}

void expect_shifted(Size size, Shift a, int64_t shift) {
  const int64_t n = size.rows * size.width;
  const Rows rows{size.rows, size.width};
  const auto cells = cells_of(n, 5);
  auto down = cells;
  for (int32_t& cell : down) {
    // floor(y / 2^s), by division.
    const int64_t unit = int64_t{1} << a.places;
    const int64_t floor = (int64_t{cell} - ((int64_t{cell} % unit + unit) % unit)) / unit;
    cell = static_cast<int32_t>(a.negative ? -floor : floor);
  }
  const auto planes = planes_of(cells, size, a.places);
  const auto sums = sums_of(cells, size), sums_down = sums_of(down, size);
  const std::vector<int32_t> inside{0};
  const auto got = in_every_schedule([&] {
    const Buffer<int32_t> y(cells, shift), saturated(inside);
    const Buffer<uint32_t> kept(static_cast<int64_t>(planes.size()), shift);
    const Buffer<int64_t> before(size.rows), after(size.rows);
    launch_shift_down(y.data(), kept.data(), a, rows,
                      {before.data(), after.data(), saturated.data()}, nullptr);
    return std::tuple(y.values(), kept.values(), before.values(), after.values(),
                      saturated.values());
  });
  EXPECT_TRUE(same_bits(got, std::tuple(down, planes, sums, sums_down, inside)))
      << a.places << a.negative << ": " << size << ", shift " << shift;
  const auto undone = in_every_schedule([&] {
    const Buffer<int32_t> y(down, shift), saturated(inside);
    const Buffer<uint32_t> kept(planes, shift);
    const Buffer<int64_t> before(size.rows), after(size.rows);
    launch_shift_up(y.data(), kept.data(), a, rows, {before.data(), after.data(), saturated.data()},
                    nullptr);
    return std::tuple(y.values(), before.values(), after.values(), saturated.values());
  });
  EXPECT_TRUE(same_bits(undone, std::tuple(cells, sums_down, sums, inside)))
      << a.places << a.negative << ": " << size << ", shift " << shift;
}

TEST_F(LowBitsTest, ShiftDownKeepsItsBitsAndShiftUpUndoesItInEveryBit) {
  for (int s = 1; s <= kMostPlanes; ++s) {
    for (const bool negative : {false, true}) {
      for (const Size size : {Size{1, 1}, {7, 3}, {8, 32}, {3, 33}, {1, 128}, {17, 36}, {2, 260}}) {
        for (int64_t shift = 0; shift < 2; ++shift) expect_shifted(size, {s, negative}, shift);
      }
    }
  }
  for (const unsigned blocks : {1u, 2u}) {
    const FewBlocks few(blocks);
    for (const int64_t width : {33, 36}) expect_shifted({51, width}, {3, true}, 0);
  }
}

TEST_F(LowBitsTest, EitherSumMayBeAskedForAlone) {
  const Size size{3, 36};
  const Shift a{3, false};
  const auto cells = cells_of(3 * 36, 6);
  const Buffer<uint32_t> planes(3 * plane_groups(36) * a.places);
  const Buffer<int32_t> y(cells);
  const Buffer<int64_t> before(3), after(3);
  launch_shift_down(y.data(), planes.data(), a, {3, 36}, {before.data(), nullptr, nullptr},
                    nullptr);
  EXPECT_TRUE(same_bits(before.values(), sums_of(cells, size)));
  launch_shift_up(y.data(), planes.data(), a, {3, 36}, {nullptr, after.data(), nullptr}, nullptr);
  EXPECT_TRUE(same_bits(after.values(), sums_of(cells, size)));
}

TEST_F(LowBitsTest, ShiftUpFlagsWhatLeavesTheRange) {
  const auto flag_of = [](int32_t cell, int s, bool negative) {
    const Buffer<int32_t> y(std::vector<int32_t>{0, 0, cell, 0}),
        saturated(std::vector<int32_t>{0});
    const Buffer<uint32_t> planes(std::vector<uint32_t>(static_cast<std::size_t>(s)));
    launch_shift_up(y.data(), planes.data(), {s, negative}, {1, 4},
                    {nullptr, nullptr, saturated.data()}, nullptr);
    return saturated.values()[0];
  };
  for (int s = 1; s <= kMostPlanes; ++s) {
    const int32_t most = kMost >> s, least = kLeast >> s;
    EXPECT_EQ(flag_of(most, s, false), 0);
    EXPECT_EQ(flag_of(most + 1, s, false), 1);
    EXPECT_EQ(flag_of(least, s, false), 0);
    EXPECT_EQ(flag_of(least - 1, s, false), 1);
    EXPECT_EQ(flag_of(-least, s, true), 0);
    EXPECT_EQ(flag_of(-least + 1, s, true), 1);
    EXPECT_EQ(flag_of(kLeast, s, true), 1);
  }
}

}  // namespace
}  // namespace rev::cuda
