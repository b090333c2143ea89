#include "rev/kernels/grid.h"

#include <ATen/Parallel.h>
#include <cmath>
#include <gtest/gtest.h>
#include <limits>
#include <torch/torch.h>

#include "support/throws.h"

namespace rev::kernels {
namespace {

using at::Tensor;

constexpr int64_t kBits = 16;

// Lengths around the widths of vector registers, and one longer than a thread's share.
const std::vector<std::vector<int64_t>> kShapes = {{0, 4},  {1, 1},   {3, 7},    {2, 5, 31}, {32},
                                                   {4, 33}, {2, 257}, {5, 1023}, {70, 1025}};

Tensor cells(at::IntArrayRef shape) { return torch::randint(-(1 << 30), 1 << 30, shape, at::kInt); }

// rint(c f 2^k) as written: the product in float32, ties to even.
Tensor increment(const Tensor& f, double c) {
  const auto scale = static_cast<float>(std::ldexp(c, kBits));
  return f.to(at::kFloat).mul(scale).round().to(at::kLong);
}

Tensor wrapped(const Tensor& wide) { return wide.to(at::kInt); }  // modulo 2^32

TEST(GridTest, EncodeAndDecodeAreInverseOnTheGrid) {
  for (const auto& shape : kShapes) {
    const Tensor i = torch::randint(-(1 << 23), 1 << 23, shape, at::kInt);  // exact as float32
    const Tensor x = decode(i, kBits);
    EXPECT_TRUE(at::equal(x, i.to(at::kFloat) / 65536.0));
    EXPECT_TRUE(at::equal(encode(x, at::kInt, kBits), i));
  }
}

TEST(GridTest, EncodeRoundsToNearestTiesToEven) {
  const Tensor x = torch::tensor({0.5, 1.5, 2.5, -0.5, -1.5, 0.49, -2.51}) / 65536.0;
  EXPECT_TRUE(
      at::equal(encode(x, at::kInt, kBits), torch::tensor({0, 2, 2, 0, -2, 0, -3}, at::kInt)));
}

TEST(GridTest, UpdateAddsTheRoundedIncrement) {
  for (const auto& shape : kShapes) {
    for (const auto dtype : {at::kFloat, at::kBFloat16, at::kHalf, at::kDouble}) {
      const Tensor f = torch::randn(shape).mul(3).to(dtype), i = cells(shape);
      Tensor y = i.clone();
      update_(y, f, 0.7, kBits);
      EXPECT_TRUE(at::equal(y, wrapped(i.to(at::kLong) + increment(f, 0.7)))) << shape << dtype;
    }
  }
}

TEST(GridTest, UpdateWithTheOppositeFactorUndoes) {
  for (const auto& shape : kShapes) {
    // Magnitudes from far below a cell to far beyond the range.
    const Tensor f = torch::randn(shape) * torch::exp(torch::randn(shape) * 12);
    const Tensor i = cells(shape);
    Tensor y = i.clone();
    update_(y, f, 1.3, kBits);
    update_(y, f, -1.3, kBits);
    EXPECT_TRUE(at::equal(y, i)) << shape;
  }
}

TEST(GridTest, ReflectIsItsOwnInverseAndWhatItSays) {
  for (const auto& shape : kShapes) {
    const Tensor i = cells(shape), x = cells(shape), f = torch::randn(shape) * 100;
    Tensor y = i.clone();
    reflect_(y, x, f, 0.25, kBits);
    EXPECT_TRUE(at::equal(y, wrapped(2 * x.to(at::kLong) - i.to(at::kLong) + increment(f, 0.25))));
    reflect_(y, x, f, 0.25, kBits);
    EXPECT_TRUE(at::equal(y, i)) << shape;
  }
}

TEST(GridTest, BlendRoundsBothTermsOnceAndUndoes) {
  for (const auto& shape : kShapes) {
    const Tensor i = cells(shape), x = cells(shape), f = torch::randn(shape);
    Tensor y = i.clone();
    blend_(y, x, -0.25, f, 0.5, kBits);
    const Tensor r = (x.to(at::kFloat).mul(-0.25f) + f.mul(0.5f * 65536.0f)).round().to(at::kLong);
    EXPECT_TRUE(at::equal(y, wrapped(i.to(at::kLong) + r)));
    blend_(y, x, 0.25, f, -0.5, kBits);
    EXPECT_TRUE(at::equal(y, i)) << shape;
  }
}

TEST(GridTest, ScaleIsTheProductToACellAndUndoesInAnyOrderOfRatios) {
  const std::vector<Ratio> ratios = {{5, 4, false},     {13, 16, true}, {1, 1, true},
                                     {256, 205, false}, {1, 8, false},  {383, 256, true}};
  for (const auto digit_type : {at::kInt, at::kLong}) {
    const Tensor i = torch::randint(-(1 << 24), 1 << 24, {7, 129}, at::kInt);
    Tensor y = i.clone(), digits = at::zeros(i.sizes(), digit_type);
    std::vector<Tensor> states;
    for (const Ratio& a : ratios) {
      const Tensor before = y.clone();
      states.push_back(before);
      scale_(y, digits, a);
      // The digit that comes in adds less than n / m cells, the floor takes less than one.
      const Tensor off = (y.to(at::kDouble) - before.to(at::kDouble) * a.value()).abs();
      EXPECT_LT(off.max().item<double>(), std::max(1.0, std::abs(a.value())));
    }
    for (size_t k = ratios.size(); k-- > 0;) {
      unscale_(y, digits, ratios[k]);
      EXPECT_TRUE(at::equal(y, states[k])) << k;
    }
    EXPECT_EQ(digits.abs().sum().item<int64_t>(), 0);
  }
}

TEST(GridTest, DigitsOf32And64BitsGiveTheSameCells) {
  // Two implementations: one by products with reciprocals, one by whole divisions.
  const std::vector<Ratio> ratios = {{1, 256, false},      {383, 256, true},      {3, 1, false},
                                     {65536, 65535, true}, {65535, 65536, false}, {7, 13, true}};
  constexpr int32_t kMost = std::numeric_limits<int32_t>::max();
  const Tensor edges =
      torch::tensor({0, 1, -1, 255, 256, -255, -256, -257, kMost, -kMost, -kMost - 1}, at::kInt);
  const Tensor all = torch::cat({edges, torch::randint(-kMost, kMost, {9989}, at::kInt)});
  for (const Tensor& i :
       {all, all.bitwise_right_shift(2)}) {  // products leave the range, or do not
    for (const Ratio& a : ratios) {
      const int64_t most = ((int64_t{1} << 32) / a.m - 1) * a.n;  // digits stay below 2^32
      const Tensor wide = torch::randint(0, std::min<int64_t>(most, kMost), i.sizes(), at::kLong);
      Tensor y32 = i.clone(), y64 = i.clone(), d32 = wide.to(at::kInt), d64 = wide.clone();
      Tensor flag32 = at::zeros({1}, at::kInt), flag64 = at::zeros({1}, at::kInt);
      scale_(y32, d32, a, {{}, {}, flag32});
      scale_(y64, d64, a, {{}, {}, flag64});
      EXPECT_TRUE(at::equal(y32, y64)) << a.n << "/" << a.m;
      EXPECT_TRUE(at::equal(d32.to(at::kLong).bitwise_and(0xffffffff), d64)) << a.n << "/" << a.m;
      EXPECT_TRUE(at::equal(flag32, flag64)) << a.n << "/" << a.m;
      EXPECT_EQ(flag32.item<int32_t>(), i.is_same(all) && a.n >= a.m ? 1 : 0) << a.n << "/" << a.m;
      unscale_(y64, d64, a);
      unscale_(y32, d32, a);
      EXPECT_TRUE(at::equal(y32, y64)) << a.n << "/" << a.m;
      if (i.is_same(all)) continue;
      EXPECT_TRUE(at::equal(y32, i)) << a.n << "/" << a.m;
      EXPECT_TRUE(at::equal(d32, wide.to(at::kInt))) << a.n << "/" << a.m;
    }
  }
}

TEST(GridTest, SaturationIsFlaggedAtTheEdgeOfTheRangeAndNotBefore) {
  const auto flag_of = [](int32_t cell, float f) {
    Tensor y = torch::tensor({0, cell, 0}, at::kInt), flag = at::zeros({1}, at::kInt);
    update_(y, torch::tensor({0.0f, f, 0.0f}), 1.0, kBits, {{}, {}, flag});
    return flag.item<int32_t>();
  };
  constexpr int32_t kMost = std::numeric_limits<int32_t>::max();
  constexpr float kCell = 1.0f / 65536;
  EXPECT_EQ(flag_of(kMost - 1, kCell), 0);
  EXPECT_EQ(flag_of(kMost, kCell), 1);
  EXPECT_EQ(flag_of(-kMost, -kCell), 0);
  EXPECT_EQ(flag_of(-kMost - 1, -kCell), 1);
  EXPECT_EQ(flag_of(0, 32767.0f), 0);
  EXPECT_EQ(flag_of(0, 32768.0f), 1);
  EXPECT_EQ(flag_of(0, std::numeric_limits<float>::quiet_NaN()), 1);
  EXPECT_EQ(flag_of(0, -std::numeric_limits<float>::infinity()), 1);
}

TEST(GridTest, ReflectAndScaleFlagSaturation) {
  Tensor flag = at::zeros({1}, at::kInt);
  Tensor y = torch::tensor({-5}, at::kInt);
  const Tensor x = torch::tensor({1 << 30}, at::kInt);
  reflect_(y, x, torch::zeros({1}), 1.0, kBits, {{}, {}, flag});
  EXPECT_EQ(flag.item<int32_t>(), 1);

  flag.zero_();
  Tensor large = torch::tensor({1 << 30}, at::kInt), digits = at::zeros({1}, at::kInt);
  scale_(large, digits, {5, 4, false}, {{}, {}, flag});
  EXPECT_EQ(flag.item<int32_t>(), 0);
  scale_(large, digits, {2, 1, false}, {{}, {}, flag});
  EXPECT_EQ(flag.item<int32_t>(), 1);
}

TEST(GridTest, ProbesSumRowsBeforeAndAfter) {
  for (const auto& shape : kShapes) {
    Tensor y = cells(shape);
    const int64_t rows = y.size(-1) == 0 ? 0 : y.numel() / y.size(-1);
    const Tensor was = row_sums(y);
    Tensor before = at::full({rows}, -1, at::kLong), after = at::full({rows}, -1, at::kLong);
    update_(y, torch::randn(shape), 1.0, kBits, {before, after, {}});
    EXPECT_TRUE(at::equal(before, was));
    EXPECT_TRUE(at::equal(after, row_sums(y)));
  }
}

TEST(GridTest, RowSumsSeeEveryChangedBitAndEverySwap) {
  const Tensor y = cells({64, 96}), sums = row_sums(y);
  for (int bit = 0; bit < 32; ++bit) {
    Tensor z = y.clone();
    const int64_t column = (bit * 37) % 96;
    z.select(1, column).bitwise_xor_(static_cast<int32_t>(uint32_t{1} << bit));
    EXPECT_EQ(count_differing(row_sums(z), sums), 64) << bit;
  }
  Tensor swapped = y.clone();
  swapped.select(1, 3).copy_(y.select(1, 4));
  swapped.select(1, 4).copy_(y.select(1, 3));
  EXPECT_EQ(count_differing(row_sums(swapped), sums), 64);

  // Second differences (1, -2, 1) cancel where weights grow evenly with the column.
  Tensor wave = y.clone();
  wave.select(1, 10).add_(1);
  wave.select(1, 11).sub_(2);
  wave.select(1, 12).add_(1);
  EXPECT_EQ(count_differing(row_sums(wave), sums), 64);
}

TEST(GridTest, RowSumsReadFloatStatesBitByBit) {
  for (const auto dtype : {at::kFloat, at::kDouble}) {
    const Tensor y = torch::randn({8, 5}, dtype);
    Tensor z = y.clone();
    z[3][2] = -z[3][2];
    EXPECT_EQ(count_differing(row_sums(z), row_sums(y)), 1);
    EXPECT_EQ(count_differing(row_sums(y.clone()), row_sums(y)), 0);
  }
}

TEST(GridTest, BitsDoNotDependOnTheNumberOfThreads) {
  const Tensor i = cells({300, 257}), f = torch::randn({300, 257});
  const auto run = [&](int threads) {
    at::set_num_threads(threads);
    Tensor y = i.clone(), before = at::zeros({300}, at::kLong);
    update_(y, f, 0.3, kBits, {before, {}, {}});
    return std::pair(y, before);
  };
  const int threads = at::get_num_threads();
  const auto one = run(1), two = run(2);
  at::set_num_threads(threads);
  EXPECT_TRUE(at::equal(one.first, two.first));
  EXPECT_TRUE(at::equal(one.second, two.second));
}

TEST(GridTest, FloatStatesAreUpdatedInTheirOwnPrecision) {
  const Tensor p = torch::randn({4, 6}, at::kDouble), q = torch::randn({4, 6}, at::kDouble);
  const Tensor f = torch::randn({4, 6}, at::kDouble);
  Tensor none;
  Tensor y = q.clone();
  update_(y, f, 0.3, kBits);
  EXPECT_TRUE(at::allclose(y, q + 0.3 * f, 0, 1e-15));  // one rounding of numbers below 8
  y = q.clone();
  reflect_(y, p, f, 0.3, kBits);
  // Two sums below 16 on either side: each rounds by at most 2^-50, 8.9e-16.
  EXPECT_TRUE(at::allclose(y, 2 * p - q + 0.3 * f, 0, 4e-15));
  y = q.clone();
  blend_(y, p, 0.2, f, 0.3, kBits);
  // Two sums below 8 on either side, 2^-51 each, and products below 1.
  EXPECT_TRUE(at::allclose(y, q + 0.2 * p + 0.3 * f, 0, 2e-15));
  y = q.clone();
  scale_(y, none, {3, 4, true});
  EXPECT_TRUE(at::equal(y, q * -0.75));
}

TEST(GridTest, RefusesWhatDoesNotFit) {
  Tensor y = cells({2, 4});
  const Tensor f = torch::zeros({2, 4});
  EXPECT_THROW_WITH(update_(y, torch::zeros({2, 3}), 1.0, kBits), "[2, 4]");
  EXPECT_THROW_WITH(update_(y, y, 1.0, kBits), "must be floating point");
  EXPECT_THROW_WITH(update_(y, f, 1.0, 31), "grid bits must be 1 to 30, got 31");
  Tensor transposed = cells({4, 2}).t();
  EXPECT_THROW_WITH(update_(transposed, f, 1.0, kBits), "contiguous");
  Tensor bytes = torch::zeros({2, 4}, at::kByte);
  EXPECT_THROW_WITH(update_(bytes, f, 1.0, kBits), "int32 (the grid), float32 or float64");
  EXPECT_THROW_WITH(encode(y, at::kInt, kBits), "floating point");
  EXPECT_THROW_WITH(reflect_(y, f, f, 1.0, kBits), "reflect_: the state is Int but x is Float");
  EXPECT_THROW_WITH(blend_(y, f, 1.0, f, 1.0, kBits), "blend_: the state is Int but x is Float");
  Tensor exact = torch::zeros({2, 4}, at::kDouble);
  EXPECT_THROW_WITH(reflect_(exact, f, f, 1.0, kBits), "the state is Double but x is Float");
  EXPECT_THROW_WITH(blend_(exact, y, 1.0, f, 1.0, kBits), "the state is Double but x is Int");
  Tensor digits;
  EXPECT_THROW_WITH(scale_(y, digits, {0, 4, false}), "n and m from 1");
  EXPECT_THROW_WITH(update_(y, f, 1.0, kBits, {at::zeros({3}, at::kLong), {}, {}}), "2 elements");
}

}  // namespace
}  // namespace rev::kernels
