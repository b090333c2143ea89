#include "cuda/update_norm.h"

#include <limits>
#include <tuple>
#include <vector>

#include "cuda/grid.h"
#include "cuda/norm.h"
#include "cuda/support/kernel_test.h"
#include "cuda/support/numbers.h"

namespace rev::cuda {
namespace {

using namespace testing;

using Reals = std::vector<float>;

class UpdateNormTest : public KernelTest {};

// What a fused launch and the separate ones leave behind.
struct Left {
  std::vector<int32_t> state;
  std::vector<int64_t> before, after;
  std::vector<int32_t> saturated;
  Reals value;
  std::vector<BFloat16> value16;
  Reals y;
  std::vector<BFloat16> y16;
  Reals mean, rstd;

  auto all() const {
    return std::tuple(state, before, after, saturated, value, value16, y, y16, mean, rstd);
  }
};

enum class Op { kUpdate, kReflect, kBlend };

template <class F>
struct Case {
  Op op;
  Size size;
  bool centred;
  Shifts shift;
  float scale;
  std::vector<int32_t> state, other;
  std::vector<F> f;
  Reals weight, bias;

  static constexpr float kUnit = 1.0f / 65536;

  Left run(bool fused) const {
    const int64_t n = size.rows * size.width;
    const Buffer<int32_t> y(state, shift(0)), x(other, shift(1)),
        saturated(std::vector<int32_t>{0});
    const Buffer<F> increments(f, shift(2));
    const Buffer<int64_t> before(size.rows), after(size.rows);
    const Buffer<float> w(weight, shift(3)), b(bias, shift(4));
    const Buffer<float> value(n, shift(5)), normed(n, shift(6));
    const Buffer<BFloat16> value16(n, shift(7)), normed16(n, shift(8));
    const Buffer<float> mean(size.rows), rstd(size.rows);
    const Rows rows{size.rows, size.width};
    const Probe probe{before.data(), after.data(), saturated.data()};
    const Norm norm{w.data(), centred ? b.data() : nullptr, 1e-5f, centred};
    const StateNorm made{kUnit,
                         {value.data(), value16.data()},
                         norm,
                         {normed.data(), normed16.data()},
                         {mean.data(), rstd.data()}};
    if (fused) {
      if (op == Op::kUpdate) {
        launch_update_norm(y.data(), increments.data(), scale, made, rows, probe, nullptr);
      } else if (op == Op::kReflect) {
        launch_reflect_norm(y.data(), x.data(), increments.data(), scale, made, rows, probe,
                            nullptr);
      } else {
        launch_blend_norm(y.data(), x.data(), -0.25f, increments.data(), scale, made, rows, probe,
                          nullptr);
      }
    } else {
      if (op == Op::kUpdate) {
        launch_update(y.data(), increments.data(), scale, rows, probe, nullptr);
      } else if (op == Op::kReflect) {
        launch_reflect(y.data(), x.data(), increments.data(), scale, rows, probe, nullptr);
      } else {
        launch_blend(y.data(), x.data(), -0.25f, increments.data(), scale, rows, probe, nullptr);
      }
      launch_decode(value.data(), y.data(), kUnit, n, nullptr);
      launch_norm<float>({normed.data(), normed16.data()}, {mean.data(), rstd.data()}, value.data(),
                         norm, rows, nullptr);
    }
    Left left{y.values(),     before.values(),  after.values(),  saturated.values(),
              value.values(), value16.values(), normed.values(), normed16.values(),
              mean.values(),  rstd.values()};
    if (!fused) left.value16 = as<BFloat16>(left.value);
    return left;
  }
};

template <class F>
Case<F> random_case(Op op, Size size, bool centred, Shifts shift) {
  Random random(7);
  const int64_t n = size.rows * size.width;
  return {op,
          size,
          centred,
          shift,
          45875.2f,  // 0.7 of 2^16
          random.integers(n, -(1 << 20), 1 << 20),
          random.integers(n, -(1 << 20), 1 << 20),
          random.reals<F>(n, 3),
          random.reals<float>(size.width, 2),
          random.reals<float>(size.width, 2)};
}

template <class F>
void expect_fused(const Case<F>& fused) {
  const auto got = in_every_schedule([&] { return fused.run(true).all(); });
  EXPECT_TRUE(same_bits(got, fused.run(false).all()))
      << "operation " << static_cast<int>(fused.op) << ", " << fused.size << ", " << fused.shift
      << ", centred " << fused.centred;
}

TEST_F(UpdateNormTest, IsUpdateDecodeAndNormInEveryBit) {
  const auto expect = [](Size size, int64_t shift) {
    expect_fused(random_case<float>(Op::kUpdate, size, true, shift));
    expect_fused(random_case<BFloat16>(Op::kUpdate, size, false, shift));
  };
  for (const Size size : kRowSizes) {
    for (const int64_t shift : {0, 1}) expect(size, shift);
  }
  // Several pieces, and rows that are too long to be kept.
  for (const Size size : {Size{9, 768}, Size{1, 2048}, Size{2, 2056}, Size{1, 2051}}) {
    expect(size, 0);
  }
  for (const Op op : {Op::kReflect, Op::kBlend}) {
    for (const Size size : {Size{9, 31}, Size{5, 264}, Size{1, 2056}}) {
      expect_fused(random_case<float>(op, size, false, 0));
      expect_fused(random_case<BFloat16>(op, size, true, 0));
    }
  }
}

TEST_F(UpdateNormTest, AnyPointerMayBeTheOneThatIsNotAligned) {
  for (const Op op : {Op::kUpdate, Op::kReflect, Op::kBlend}) {
    for (int only = 0; only < 9; ++only) {
      expect_fused(random_case<float>(op, {2, 40}, true, {1, only}));
      expect_fused(random_case<BFloat16>(op, {2, 40}, true, {1, only}));
    }
  }
}

TEST_F(UpdateNormTest, BlocksTakeRowsOneAfterTheOther) {
  for (const unsigned blocks : {1u, 2u}) {
    const FewBlocks few(blocks);
    for (const int64_t width : {33, 40}) {
      expect_fused(random_case<float>(Op::kUpdate, {51, width}, true, 0));
      expect_fused(random_case<BFloat16>(Op::kBlend, {51, width}, false, 0));
    }
  }
}

TEST_F(UpdateNormTest, FlagsWhatLeavesTheRangeAndIsUndone) {
  auto step = random_case<float>(Op::kUpdate, {5, 264}, true, 0);
  step.f[700] = 1e9f;
  step.f[701] = std::numeric_limits<float>::quiet_NaN();
  expect_fused(step);
  const Left forward = step.run(true);
  EXPECT_EQ(forward.saturated[0], 1);
  auto undo = step;
  undo.scale = -step.scale;
  undo.state = forward.state;
  const Left back = undo.run(true);
  EXPECT_TRUE(same_bits(back.state, step.state));
  EXPECT_TRUE(same_bits(back.before, forward.after));
  EXPECT_TRUE(same_bits(back.after, forward.before));
}

TEST_F(UpdateNormTest, WritesOnlyWhatIsWanted) {
  const auto step = random_case<float>(Op::kUpdate, {5, 264}, true, 0);
  const Left want = step.run(false);
  const int64_t n = 5 * 264;
  const Buffer<int32_t> y(step.state);
  const Buffer<float> f(step.f), w(step.weight), b(step.bias);
  const Buffer<BFloat16> normed(n);
  launch_update_norm(
      y.data(), f.data(), step.scale,
      {step.kUnit, {}, {w.data(), b.data(), 1e-5f, true}, {nullptr, normed.data()}, {}}, {5, 264},
      {}, nullptr);
  EXPECT_TRUE(same_bits(y.values(), want.state));
  EXPECT_TRUE(same_bits(normed.values(), want.y16));
}

}  // namespace
}  // namespace rev::cuda
