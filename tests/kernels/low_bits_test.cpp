#include "rev/kernels/low_bits.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <limits>
#include <torch/torch.h>

#include "support/throws.h"

namespace rev::kernels {
namespace {

using at::Tensor;

const std::vector<std::vector<int64_t>> kShapes = {{0, 4},  {1, 1},   {3, 5},    {2, 4, 8}, {32},
                                                   {4, 33}, {2, 257}, {5, 1023}, {20, 1025}};
constexpr int32_t kMost = std::numeric_limits<int32_t>::max(), kLeast = -kMost - 1;

// Cells of all sizes, with the extremes among them.
Tensor cells(at::IntArrayRef shape) {
  Tensor x = torch::randint(kLeast, int64_t{kMost} + 1, shape, at::kLong)
                 .bitwise_right_shift(torch::randint(0, 32, shape, at::kLong))
                 .to(at::kInt);
  Tensor flat = x.view({-1});
  const int32_t edges[] = {kLeast, kMost, -1, 0, kLeast + 1};
  for (int64_t i = 0; i < std::min<int64_t>(flat.numel(), 5); ++i) flat[i] = edges[i];
  return x;
}

TEST(LowBitsTest, SelectsTheCellFromAnyNeighbourCloserThanHalfThePeriod) {
  for (const int64_t count : {1, 2, 4, 8, 16}) {
    for (const auto& shape : std::vector<std::vector<int64_t>>{{1, 1}, {3, 5}, {2, 4, 8}}) {
      const Tensor x = torch::randint(-1000, 1000, shape, at::kInt);
      const Tensor packed = pack_low_bits(x, count);
      EXPECT_EQ(packed.numel(), (x.numel() * count + 7) / 8);
      const int64_t reach = (1 << (count - 1)) - 1;
      for (int64_t off = -reach; off <= reach; off += std::max<int64_t>(1, reach / 127)) {
        const Tensor near = x + static_cast<int32_t>(off);
        EXPECT_TRUE(at::equal(select_by_low_bits(near, packed, count), x)) << count << " " << off;
      }
    }
  }
}

TEST(LowBitsTest, PacksTheFirstCellIntoTheLowestBits) {
  const Tensor x = torch::tensor({1, 2, -1, 4, -8}, at::kInt);
  const auto bytes = [&](int64_t count) { return pack_low_bits(x, count); };
  EXPECT_TRUE(at::equal(bytes(1), torch::tensor({0b00101}, at::kByte)));
  EXPECT_TRUE(at::equal(bytes(2), torch::tensor({0b00111001, 0}, at::kByte)));
  EXPECT_TRUE(at::equal(bytes(4), torch::tensor({0x21, 0x4f, 0x08}, at::kByte)));
  EXPECT_TRUE(at::equal(bytes(8), torch::tensor({1, 2, 255, 4, 248}, at::kByte)));
  EXPECT_TRUE(at::equal(bytes(16), x.to(at::kShort).view(at::kByte)));
}

TEST(LowBitsTest, SelectsTheNearestCellAndSumsItsRow) {
  for (const int64_t count : {1, 2, 4, 8, 16}) {
    for (const auto& shape : kShapes) {
      const Tensor near = cells(shape), kept = cells(shape);
      const Tensor packed = pack_low_bits(kept, count);
      const int64_t rows = near.size(-1) == 0 ? 0 : near.numel() / near.size(-1);
      const Tensor sums = at::full({rows}, -1, at::kLong);
      const Tensor x = select_by_low_bits(near, packed, count, sums);
      EXPECT_TRUE(at::equal(select_by_low_bits(near, packed, count), x));
      EXPECT_TRUE(at::equal(sums, row_sums(x)));
      const int64_t period = int64_t{1} << count, half = period / 2;
      EXPECT_TRUE(
          at::equal(x.to(at::kLong).remainder(period), kept.to(at::kLong).remainder(period)));
      // From -half to half - 1, modulo 2^32.
      const Tensor off = (x.to(at::kLong) - near.to(at::kLong)).to(at::kInt).to(at::kLong);
      EXPECT_TRUE(off.ge(-half).logical_and(off.lt(half)).all().item<bool>()) << count << shape;
    }
  }
}

TEST(LowBitsTest, ReadsViewsAsTheyAre) {
  for (const int64_t count : {1, 2, 4, 8, 16}) {
    const Tensor x = cells({6, 10});
    EXPECT_TRUE(at::equal(pack_low_bits(x.t(), count), pack_low_bits(x.t().contiguous(), count)));
    // Packed bytes that start at an odd address.
    const Tensor part = x.narrow(0, 1, 4), packed = pack_low_bits(part, count);
    Tensor room = at::zeros({packed.numel() + 1}, at::kByte);
    room.narrow(0, 1, packed.numel()).copy_(packed);
    EXPECT_TRUE(
        at::equal(select_by_low_bits(part, room.narrow(0, 1, packed.numel()), count), part));
  }
}

TEST(LowBitsTest, ShiftUpUndoesShiftDownInEveryBit) {
  for (int64_t s = 1; s <= 8; ++s) {
    for (const bool negative : {false, true}) {
      for (const auto& shape : kShapes) {
        const Shift a{s, negative};
        const Tensor x = cells(shape), planes = bit_planes(x, s);
        EXPECT_EQ(planes.numel() * 32,
                  x.size(-1) == 0 ? 0 : x.numel() / x.size(-1) * ((x.size(-1) + 31) / 32 * 32) * s);
        Tensor y = x.clone(), flag = at::zeros({1}, at::kInt);
        const int64_t rows = x.size(-1) == 0 ? 0 : x.numel() / x.size(-1);
        Tensor before = at::full({rows}, -1, at::kLong), after = before.clone();
        shift_down_(y, planes, a, {before, after, flag});
        const Tensor floor =
            x.to(at::kLong).div(int64_t{1} << s, "floor").mul(negative ? -1 : 1).to(at::kInt);
        EXPECT_TRUE(at::equal(y, floor)) << s << negative << shape;
        EXPECT_TRUE(at::equal(before, row_sums(x)));
        EXPECT_TRUE(at::equal(after, row_sums(y)));
        shift_up_(y, planes, a, {before, after, flag});
        EXPECT_TRUE(at::equal(y, x)) << s << negative << shape;
        EXPECT_TRUE(at::equal(before, row_sums(floor)));
        EXPECT_TRUE(at::equal(after, row_sums(x)));
        EXPECT_EQ(flag.item<int32_t>(), 0);
      }
    }
  }
}

TEST(LowBitsTest, StepsOfMidpointAWithPowersOfTwoUndoInAnyOrder) {
  // p_{j+1} = a p_{j-1} + (1 - a) p_j + h f(p_j), eq 15, each step with its own planes.
  const std::vector<Shift> weights = {{1, false}, {3, true}, {8, false}, {2, true}, {1, true}};
  constexpr int64_t kBits = 16;
  const auto f = [](const Tensor& p) { return torch::sin(decode(p, kBits)); };
  const Tensor q0 = torch::randint(-(1 << 20), 1 << 20, {6, 40}, at::kInt);
  const Tensor p0 = torch::randint(-(1 << 20), 1 << 20, {6, 40}, at::kInt);
  Tensor q = q0.clone(), p = p0.clone();
  std::vector<Tensor> planes;
  for (const Shift& a : weights) {
    planes.push_back(bit_planes(q, a.places));
    shift_down_(q, planes.back(), a);
    blend_(q, p, 1 - a.value(), f(p), 0.5, kBits);
    std::swap(q, p);
  }
  for (size_t l = weights.size(); l-- > 0;) {
    std::swap(q, p);
    blend_(q, p, -(1 - weights[l].value()), f(p), -0.5, kBits);
    shift_up_(q, planes[l], weights[l]);
  }
  EXPECT_TRUE(at::equal(q, q0));
  EXPECT_TRUE(at::equal(p, p0));
}

TEST(LowBitsTest, ShiftUpFlagsWhatLeavesTheRange) {
  const auto flag_of = [](int32_t cell, const Shift& a) {
    Tensor y = torch::tensor({0, cell, 0}, at::kInt), flag = at::zeros({1}, at::kInt);
    shift_up_(y, bit_planes(y, a.places).zero_(), a, {{}, {}, flag});
    return flag.item<int32_t>();
  };
  EXPECT_EQ(flag_of(kMost >> 3, {3, false}), 0);
  EXPECT_EQ(flag_of((kMost >> 3) + 1, {3, false}), 1);
  EXPECT_EQ(flag_of(kLeast >> 3, {3, false}), 0);
  EXPECT_EQ(flag_of(-(kLeast >> 3), {3, true}), 0);
  EXPECT_EQ(flag_of(1 - (kLeast >> 3), {3, true}), 1);
}

TEST(LowBitsTest, FloatStatesAreMultiplied) {
  for (const auto dtype : {at::kFloat, at::kDouble}) {
    const Tensor x = torch::randn({4, 6}, dtype);
    Tensor y = x.clone(), before = at::zeros({4}, at::kLong), after = before.clone();
    shift_down_(y, {}, {3, true}, {before, after, {}});
    EXPECT_TRUE(at::equal(y, x * -0.125));
    EXPECT_TRUE(at::equal(before, row_sums(x)));
    EXPECT_TRUE(at::equal(after, row_sums(y)));
    shift_up_(y, {}, {3, true});
    EXPECT_TRUE(at::equal(y, x));
  }
}

TEST(LowBitsTest, BitsDoNotDependOnTheNumberOfThreads) {
  const Tensor x = cells({100, 515}), near = x + 1;
  const auto run = [&](int threads) {
    at::set_num_threads(threads);
    Tensor y = x.clone(), planes = bit_planes(x, 3);
    shift_down_(y, planes, {3, true});
    const Tensor packed = pack_low_bits(x, 2);
    return std::vector<Tensor>{y, planes, packed, select_by_low_bits(near, packed, 2)};
  };
  const int threads = at::get_num_threads();
  const auto one = run(1), two = run(2);
  at::set_num_threads(threads);
  for (size_t i = 0; i < one.size(); ++i) EXPECT_TRUE(at::equal(one[i], two[i])) << i;
}

TEST(LowBitsTest, RefusesWhatDoesNotFit) {
  const Tensor x = torch::zeros({2, 4}, at::kInt), packed = pack_low_bits(x, 2);
  EXPECT_THROW_WITH(pack_low_bits(x, 3), "1, 2, 4, 8 or 16, got 3");
  EXPECT_THROW_WITH(pack_low_bits(torch::zeros({4}), 2), "expected int32 cells");
  EXPECT_THROW_WITH(select_by_low_bits(x, packed, 4), "expected 4 contiguous bytes");
  EXPECT_THROW_WITH(select_by_low_bits(x.t(), packed, 2), "must be contiguous");
  EXPECT_THROW_WITH(select_by_low_bits(x, packed.to(at::kInt), 2), "expected 2 contiguous bytes");
  EXPECT_THROW_WITH(select_by_low_bits(x, packed, 2, at::zeros({3}, at::kLong)), "2 elements");
  Tensor y = x.clone();
  EXPECT_THROW_WITH(bit_planes(y, 9), "s from 1 to 8, got s = 9");
  EXPECT_THROW_WITH(shift_down_(y, bit_planes(y, 2), {0, false}), "s from 1 to 8, got s = 0");
  EXPECT_THROW_WITH(shift_down_(y, bit_planes(y, 2), {3, false}), "int32 [2, 1, 3]");
  EXPECT_THROW_WITH(shift_up_(y, {}, {3, false}), "int32 [2, 1, 3]");
  Tensor transposed = x.t();
  EXPECT_THROW_WITH(shift_down_(transposed, bit_planes(y, 2), {2, false}), "contiguous");
  EXPECT_THROW_WITH(
      shift_down_(y, bit_planes(y, 2), {2, false}, {at::zeros({3}, at::kLong), {}, {}}),
      "2 elements");
}

}  // namespace
}  // namespace rev::kernels
