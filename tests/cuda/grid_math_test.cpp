// The grid's arithmetic against wider numbers: doubles hold every product and sum of two floats
// well enough to be rounded once more, and 128-bit integers hold all the rest.
#include "cuda/grid_math.h"

#include <cmath>
#include <cstdint>
#include <gtest/gtest.h>
#include <limits>
#include <set>
#include <vector>

#include "cuda/support/numbers.h"

namespace rev::grid {
namespace {

using cuda::testing::Random;

constexpr int64_t kLeast = std::numeric_limits<int32_t>::min();
constexpr int64_t kMost = std::numeric_limits<int32_t>::max();
constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

/// A cell, and whether its range was left.
struct Result {
  int64_t cell;
  bool out;

  bool operator==(const Result& other) const { return cell == other.cell && out == other.out; }
};

std::ostream& operator<<(std::ostream& stream, const Result& result) {
  return stream << result.cell << (result.out ? " (out)" : "");
}

template <class Function, class... A>
Result result_of(const Function& function, A... arguments) {
  uint32_t out = 0;
  const int64_t cell = function(arguments..., out);
  EXPECT_LE(out, 1u);
  // `out` gathers: what was found before stays.
  uint32_t again = 1;
  EXPECT_EQ(function(arguments..., again), cell);
  EXPECT_EQ(again, 1u);
  return {cell, out == 1};
}

// The nearest whole number, ties to even, within the largest float below 2^31.
Result rounded(float v) {
  if (std::isnan(v)) return {0, true};
  const double largest = 2147483520.0, r = std::nearbyint(static_cast<double>(v));
  if (r > largest) return {2147483520, true};
  if (r < -largest) return {-2147483520, true};
  return {static_cast<int64_t>(r), false};
}

Result wrapped(int64_t wide) {
  return {static_cast<int32_t>(static_cast<uint32_t>(static_cast<uint64_t>(wide))),
          wide < kLeast || wide > kMost};
}

Result either(const Result& result, const Result& increment) {
  return {result.cell, result.out || increment.out};
}

// a b as a float, rounded once: a double holds the product.
float product(float a, float b) {
  return static_cast<float>(static_cast<double>(a) * static_cast<double>(b));
}

std::vector<float> floats() {
  std::vector<float> values = {0.0f,        0.5f,       1.5f,     2.5f,     0.49999997f,
                               0.50000006f, 8388609.0f, 1e-45f,   kLargest, 2147483648.0f,
                               4e9f,        3e38f,      kInfinity};
  values.push_back(std::nextafter(kLargest, 0.0f));
  Random random(1);
  for (int i = 0; i < 2000; ++i) {
    values.push_back(std::ldexp(random.real(1.0f), static_cast<int>(random.integer(-10, 40))));
    values.push_back(static_cast<float>(random.integer(-1000, 1000)) + 0.5f);
  }
  const std::size_t n = values.size();
  for (std::size_t i = 0; i < n; ++i) values.push_back(-values[i]);
  values.push_back(kNan);
  return values;
}

std::vector<int32_t> cells() {
  std::vector<int32_t> values = {0, 1, -1, 2, -2, 255, -256, 1 << 30, -(1 << 30)};
  for (int32_t k = 0; k < 3; ++k) {
    values.push_back(static_cast<int32_t>(kMost) - k);
    values.push_back(static_cast<int32_t>(kLeast) + k);
  }
  Random random(2);
  for (int i = 0; i < 300; ++i)
    values.push_back(static_cast<int32_t>(random.integer(kLeast, kMost)));
  return values;
}

TEST(GridMathTest, ToCellRoundsAndClamps) {
  for (const float v : floats()) EXPECT_EQ(result_of(to_cell, v), rounded(v)) << v;
}

TEST(GridMathTest, AddWraps) {
  for (const int32_t i : cells()) {
    for (const int32_t r : cells()) {
      EXPECT_EQ(result_of(add, i, r), wrapped(int64_t{i} + r)) << i << " + " << r;
    }
  }
}

TEST(GridMathTest, UpdateAddsTheRoundedProduct) {
  Random random(3);
  const auto all = cells();
  for (const float f : floats()) {
    const int32_t i = all[static_cast<std::size_t>(random.integer(0, int64_t(all.size())))];
    for (const float scale : {1.0f, -45875.2f}) {
      const Result increment = rounded(product(f, scale));
      EXPECT_EQ(result_of(update, i, f, scale), either(wrapped(i + increment.cell), increment))
          << i << ", " << f << " * " << scale;
    }
  }
}

TEST(GridMathTest, ReflectIsTwiceTheMirrorLessTheCell) {
  Random random(4);
  const auto all = cells();
  const auto any = [&] {
    return all[static_cast<std::size_t>(random.integer(0, int64_t(all.size())))];
  };
  for (const float f : floats()) {
    const int32_t i = any(), x = any();
    const Result increment = rounded(product(f, 0.3f));
    EXPECT_EQ(result_of(reflect, i, x, f, 0.3f),
              either(wrapped(2 * int64_t{x} - i + increment.cell), increment))
        << i << ", " << x << ", " << f;
  }
  // At the edges of the range.
  EXPECT_EQ(result_of(reflect, 1, 1 << 30, 0.0f, 1.0f), (Result{kMost, false}));
  EXPECT_EQ(result_of(reflect, 0, 1 << 30, 0.0f, 1.0f), (Result{kLeast, true}));
  EXPECT_EQ(result_of(reflect, 0, -(1 << 30), 0.0f, 1.0f), (Result{kLeast, false}));
  EXPECT_EQ(result_of(reflect, 1, -(1 << 30), 0.0f, 1.0f), (Result{kMost, true}));
}

TEST(GridMathTest, BlendRoundsTheSumOfBothProducts) {
  Random random(5);
  const auto all = cells();
  const auto any = [&] {
    return all[static_cast<std::size_t>(random.integer(0, int64_t(all.size())))];
  };
  for (const float f : floats()) {
    const int32_t i = any(), x = any();
    for (const float b : {0.25f, -1.1f}) {
      const float linear = product(b, static_cast<float>(x)), field = product(f, -0.7f);
      const auto sum = static_cast<float>(static_cast<double>(linear) + static_cast<double>(field));
      const Result increment = rounded(sum);
      EXPECT_EQ(result_of(blend, i, x, b, f, -0.7f), either(wrapped(i + increment.cell), increment))
          << i << ", " << b << " * " << x << ", " << f;
    }
  }
}

using Wide = __int128;

Wide floor_division(Wide a, Wide b) {
  const Wide quotient = a / b;
  return quotient * b > a ? quotient - 1 : quotient;
}

TEST(GridMathTest, RescaleKeepsWhatDivisionLoses) {
  Random random(6);
  const std::vector<uint32_t> factors = {1,      2, 3, 5, 13, 256, 383, 65535, 65536, (1 << 24) - 1,
                                         1 << 24};
  for (const int32_t x : cells()) {
    for (int time = 0; time < 20; ++time) {
      const uint32_t n = factors[static_cast<std::size_t>(random.integer(0, 11))];
      const uint32_t m = factors[static_cast<std::size_t>(random.integer(0, 11))];
      // d n / m stays below 2^64.
      const auto digits = static_cast<uint64_t>(random.integer(0, int64_t{1} << 38));
      const Wide z = Wide{x} * n + static_cast<Wide>(digits % n);
      const Wide cell = floor_division(z, m);
      const auto left = static_cast<uint64_t>(Wide{digits / n} * m + (z - cell * m));
      uint64_t d = digits;
      uint32_t out = 0;
      EXPECT_EQ(rescale(x, d, n, m, out), static_cast<int32_t>(static_cast<int64_t>(cell)));
      EXPECT_EQ(d, left) << x << " * " << n << " / " << m << ", " << digits;
      EXPECT_EQ(out, cell < kLeast || cell > kMost ? 1u : 0u) << x << " * " << n << " / " << m;
      if (out == 1) continue;
      uint32_t undone = 0;
      EXPECT_EQ(rescale(static_cast<int32_t>(cell), d, m, n, undone), x);
      EXPECT_EQ(d, digits);
      EXPECT_EQ(undone, 0u);
    }
  }
}

TEST(GridMathTest, NegateHasOneCellWithoutANegative) {
  for (const int32_t x : cells()) EXPECT_EQ(result_of(negate, x), wrapped(-int64_t{x})) << x;
}

TEST(GridMathTest, WeightsAreOddAndStayWhatTheyAre) {
  std::set<uint32_t> weights;
  for (uint32_t j = 0; j < 10000; ++j) {
    EXPECT_EQ(weight(j) % 2, 1u);
    weights.insert(weight(j));
  }
  EXPECT_EQ(weights.size(), 10000u);
  EXPECT_EQ(weight(0u), 0x4bc0fbebu);
  EXPECT_EQ(weight(1u), 0xbe1bc733u);
  EXPECT_EQ(weight(2u), 0xe98b9527u);
  EXPECT_EQ(weight(1000u), 0x0f840455u);
  EXPECT_EQ(weight(123456789u), 0xacf3b22fu);
}

}  // namespace
}  // namespace rev::grid
