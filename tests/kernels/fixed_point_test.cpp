#include "rev/kernels/fixed_point.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <limits>
#include <torch/torch.h>

#include "rev/kernels/grid.h"
#include "rev/kernels/low_bits.h"
#include "support/throws.h"

namespace rev::kernels {
namespace {

using at::Tensor;

constexpr int64_t kBits = 16;

const std::vector<std::vector<int64_t>> kShapes = {{1, 1}, {3, 7}, {40, 32}, {9, 33}, {20, 1025}};

Tensor cells(at::IntArrayRef shape) { return torch::randint(-(1 << 30), 1 << 30, shape, at::kInt); }

// About two thirds of n rows.
Tensor some_of(int64_t n) {
  const Tensor some = (torch::rand({n}) < 0.67).nonzero().flatten();
  return some.numel() == 0 ? at::zeros({1}, at::kLong) : some;
}

TEST(FixedPointTest, GathersTheValuesOfRows) {
  for (const auto& shape : kShapes) {
    const Tensor x = cells(shape), index = some_of(shape[0]).flip(0).contiguous();
    EXPECT_TRUE(at::equal(gather_values(x, index, kBits), decode(x.index_select(0, index), kBits)));
  }
  EXPECT_EQ(gather_values(cells({4, 3}), at::zeros({0}, at::kLong), kBits).size(1), 3);
}

// The step as the formula has it, by operators on whole tensors.
struct Plain {
  Tensor x;
  Stepped step;
};

Plain plain_step(const Tensor& x, const Tensor& y, const Tensor& f, const Iterated& tokens,
                 const MoveLimits& limits) {
  const Tensor r = f.to(at::kFloat).mul(65536.0f).round().to(at::kLong);
  const Tensor next = (y.index_select(0, tokens.index).to(at::kLong) - r).to(at::kInt);  // wraps
  const Tensor was = x.index_select(0, tokens.index).to(at::kLong);
  const Tensor moved = (next.to(at::kLong) - was).abs().amax(1);
  Plain plain;
  plain.x = x.index_copy(0, tokens.index, next);
  if (tokens.moved.defined()) {
    const Tensor large = tokens.moved > limits.noise;
    plain.step.moved_before = tokens.moved.masked_select(large).sum().item<int64_t>();
    plain.step.moved_now = moved.masked_select(large).sum().item<int64_t>();
  }
  const Tensor moving = moved > limits.settled;
  plain.step.left = {tokens.index.masked_select(moving), moved.masked_select(moving)};
  return plain;
}

TEST(FixedPointTest, AStepIsTheFormulaAndListsWhatHasNotSettled) {
  for (const auto& shape : kShapes) {
    for (const auto dtype : {at::kFloat, at::kBFloat16, at::kHalf, at::kDouble}) {
      for (const bool first : {true, false}) {
        const Tensor y = cells(shape);
        Iterated tokens{some_of(shape[0]), {}};
        const int64_t n = tokens.index.numel();
        if (!first) tokens.moved = torch::randint(0, 60, {n}, at::kLong);
        const Tensor f = torch::randn({n, shape[1]}).to(dtype);
        // Start where the step leads, but for some cells: some tokens have settled, some have far
        // to go.
        const Plain goal = plain_step(y, y, f, tokens, {});
        const Tensor noise = torch::randint(-2, 3, shape, at::kInt);
        const Tensor far = (torch::rand({shape[0], 1}) < 0.5).to(at::kInt) * (1 << 30);
        Tensor x = goal.x + noise + far;
        const MoveLimits limits{2, 32};
        const Plain want = plain_step(x, y, f, tokens, limits);
        const Stepped got = iterate_(x, y, f, kBits, tokens, limits);
        EXPECT_TRUE(at::equal(x, want.x)) << shape << dtype;
        EXPECT_TRUE(at::equal(got.left.index, want.step.left.index)) << shape << dtype;
        EXPECT_TRUE(at::equal(got.left.moved, want.step.left.moved)) << shape << dtype;
        EXPECT_EQ(got.moved_before, want.step.moved_before);
        EXPECT_EQ(got.moved_now, want.step.moved_now);
      }
    }
  }
}

TEST(FixedPointTest, MovesReachAcrossTheWholeRange) {
  constexpr int32_t kMost = std::numeric_limits<int32_t>::max();
  Tensor x = torch::tensor({{kMost, 0}, {-kMost - 1, 0}}, at::kInt);
  const Tensor y = torch::tensor({{-kMost - 1, 0}, {kMost, 0}}, at::kInt);
  const Tensor index = at::arange(2, at::kLong);
  const Stepped step = iterate_(x, y, torch::zeros({2, 2}), kBits, {index, {}}, {});
  EXPECT_TRUE(at::equal(x, y));
  EXPECT_TRUE(at::equal(step.left.moved, at::full({2}, 4294967295, at::kLong)));
  // Their sum, too.
  Tensor back = torch::tensor({{kMost, 0}, {-kMost - 1, 0}}, at::kInt);
  const Stepped next = iterate_(back, y, torch::zeros({2, 2}), kBits, step.left, {});
  EXPECT_EQ(next.moved_before, 2 * int64_t{4294967295});
  EXPECT_EQ(next.moved_now, 2 * int64_t{4294967295});
}

TEST(FixedPointTest, IteratingAContractionFindsItsFixedPointAndItsSlope) {
  // Tokens with slopes from 0 to 0.6: the steep ones take longer.
  const int64_t n = 50, width = 24;
  const Tensor slope = torch::linspace(0, 0.6, n).unsqueeze(1);
  const auto f = [&](const Tensor& rows, const Tensor& index) {
    return rows * slope.index_select(0, index);
  };
  const Tensor y = torch::randint(-(1 << 18), 1 << 18, {n, width}, at::kInt);
  Tensor x = y.clone();
  Iterated left{at::arange(n, at::kLong), {}};
  double contraction = 0;
  int64_t evaluations = 0;
  while (left.index.numel() != 0 && evaluations < 64) {
    const Tensor value = f(gather_values(x, left.index, kBits), left.index);
    // Moves of two cells may go on for ever, as 0.6 * 2 + 1 > 2.
    const Stepped step = iterate_(x, y, value, kBits, left, {2, 32});
    if (step.moved_before > 0) {
      contraction = std::max(contraction, static_cast<double>(step.moved_now) /
                                              static_cast<double>(step.moved_before));
    }
    EXPECT_LE(step.left.index.numel(), left.index.numel());
    left = step.left;
    ++evaluations;
  }
  // With m the largest move, m' <= 0.6 m + 1 as two roundings of half a cell come in, so that after
  // k steps m <= 0.6^k 2^18 + 2.5: below 3, and so settled, from k = 26 on.
  EXPECT_LE(evaluations, 26);
  // x = y - s x_before + r, with a rounding r of half a cell and of float32's product of numbers
  // below 2^18, 0.01 cells; so that with a last move m of two cells at most the error is
  // (s m + r) / (1 + s), and largest for the largest slope, s = 0.6.
  const Tensor exact = y.to(at::kDouble) / (1 + slope.to(at::kDouble));
  EXPECT_LT((x.to(at::kDouble) - exact).abs().max().item<double>(), (0.6 * 2 + 0.51) / 1.6);
  // Moves that count are 33 cells or more, of which the roundings are a 33rd; and in the end tokens
  // with slopes in the upper half alone make them.
  EXPECT_GT(contraction, 0.3);
  EXPECT_LT(contraction, 0.6 + 1.0 / 33);
}

TEST(FixedPointTest, CorrectsRefutedRowsAlone) {
  for (const auto& shape : kShapes) {
    for (const int64_t count : {1, 2, 4, 8, 16}) {
      for (const auto dtype : {at::kFloat, at::kBFloat16, at::kHalf}) {
        const Tensor y = cells(shape), before = cells(shape), f = torch::randn(shape).to(dtype);
        const Tensor packed = pack_low_bits(cells(shape), count);
        const Tensor refuted = torch::rand({shape[0]}) < 0.5;
        Tensor x = before.clone(), sums = row_sums(x);
        const Tensor expected = sums + refuted.to(at::kLong);
        correct_(x, y, f, kBits, packed, count, expected, sums);
        Tensor next = y.clone();
        update_(next, f, -1.0, kBits);
        const Tensor want =
            at::where(refuted.unsqueeze(1), select_by_low_bits(next, packed, count), before);
        EXPECT_TRUE(at::equal(x, want)) << shape << count;
        EXPECT_TRUE(at::equal(sums, row_sums(want))) << shape << count;
      }
    }
  }
}

TEST(FixedPointTest, BitsDoNotDependOnTheNumberOfThreads) {
  const Tensor y = cells({300, 257}), f = torch::randn({300, 257});
  const auto run = [&](int threads) {
    at::set_num_threads(threads);
    Tensor x = y.clone();
    const Stepped step =
        iterate_(x, y, f, kBits, {at::arange(300, at::kLong), {}}, {200000, 200000});
    return std::vector<Tensor>{x, step.left.index, step.left.moved};
  };
  const int threads = at::get_num_threads();
  const auto one = run(1), two = run(2);
  at::set_num_threads(threads);
  for (size_t i = 0; i < one.size(); ++i) EXPECT_TRUE(at::equal(one[i], two[i])) << i;
}

TEST(FixedPointTest, RefusesWhatDoesNotFit) {
  const Tensor y = cells({4, 6}), f = torch::zeros({2, 6});
  const Tensor index = torch::tensor({1, 3}, at::kLong);
  Tensor x = y.clone();
  EXPECT_THROW_WITH(gather_values(torch::zeros({2, 2}), index, kBits), "contiguous int32 state");
  EXPECT_THROW_WITH(gather_values(x, index.to(at::kInt), kBits), "the index must be contiguous");
  EXPECT_THROW_WITH(gather_values(x, index, 0), "grid bits must be 1 to 30");
  EXPECT_THROW_WITH(iterate_(x, cells({4, 5}), f, kBits, {index, {}}, {}), "y is [4, 5]");
  EXPECT_THROW_WITH(iterate_(x, y, torch::zeros({3, 6}), kBits, {index, {}}, {}), "[2, 6]");
  EXPECT_THROW_WITH(iterate_(x, y, cells({2, 6}), kBits, {index, {}}, {}), "floating point [2, 6]");
  EXPECT_THROW_WITH(iterate_(x, y, f, kBits, {index, at::zeros({3}, at::kLong)}, {}),
                    "the moves must be contiguous int64 [2]");
  const Tensor packed = pack_low_bits(x, 2), whole = torch::zeros({4, 6});
  Tensor sums = row_sums(x);
  EXPECT_THROW_WITH(correct_(x, y, f, kBits, packed, 2, sums, sums), "the field's value is [2, 6]");
  EXPECT_THROW_WITH(correct_(x, y, whole, kBits, packed, 4, sums, sums), "12 contiguous bytes");
  EXPECT_THROW_WITH(correct_(x, y, whole, kBits, packed, 3, sums, sums), "1, 2, 4, 8 or 16, got 3");
  EXPECT_THROW_WITH(correct_(x, y, whole, kBits, packed, 2, sums.narrow(0, 0, 3), sums),
                    "4 elements");
}

}  // namespace
}  // namespace rev::kernels
