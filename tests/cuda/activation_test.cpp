#include "cuda/activation.h"

#include <cmath>
#include <string>
#include <tuple>

#include "cuda/activation_math.h"
#include "cuda/slices_math.h"
#include "cuda/sum_math.h"
#include "cuda/support/kernel_test.h"
#include "cuda/support/numbers.h"

namespace rev::cuda {
namespace {

using namespace testing;

template <class T>
class ActivationTest : public KernelTest {};
using Types = ::testing::Types<float, BFloat16>;
TYPED_TEST_SUITE(ActivationTest, Types);

// Rows of one slice, of two, and of more than the lanes of the second sum take at once.
constexpr Rows kCases[] = {{1, 1},   {7, 31},   {33, 32},   {32, 33},  {70, 64}, {3, 257},
                           {2, 256}, {2, 1023}, {33, 1024}, {1, 1025}, {1100, 8}};

template <class T>
std::vector<T> numbers(uint64_t seed, int64_t n) {
  std::vector<T> values = Random(seed).reals<T>(n, 6.0f);
  values[0] = narrow<T>(-0.0f);
  if (n > 5) {
    values[1] = narrow<T>(200.0f);
    values[2] = narrow<T>(-200.0f);
    values[3] = narrow<T>(INFINITY);
    values[4] = narrow<T>(NAN);
  }
  return values;
}

std::size_t at(int64_t row, int64_t column, int64_t stride) {
  return static_cast<std::size_t>(row * stride + column);
}

// Terms [rows, width] summed over slices of rows.
std::vector<float> sums_of_slices(const std::vector<float>& terms, Rows size) {
  std::vector<float> sums(at(slices_of(size.rows), 0, size.width));
  for (int64_t row = 0; row < size.rows; ++row) {
    for (int64_t j = 0; j < size.width; ++j) {
      sums[at(row / kSliceRows, j, size.width)] += terms[at(row, j, size.width)];
    }
  }
  return sums;
}

std::string text(Rows size) {
  return std::to_string(size.rows) + " x " + std::to_string(size.width);
}

template <class T>
void expect_gelu(Rows size, Shifts shift, bool biased) {
  const int64_t n = size.rows * size.width;
  const auto x = numbers<T>(1, n);
  const auto bias = Random(2).reals<float>(size.width, 1.0f);
  std::vector<T> want(x);
  for (int64_t i = 0; i < n; ++i) {
    const float b = biased ? bias[static_cast<std::size_t>(i % size.width)] : 0.0f;
    T& value = want[static_cast<std::size_t>(i)];
    value = narrow<T>(gelu(biased ? widen(value) + b : widen(value)).value);
  }
  const auto got = in_every_schedule([&] {
    const Buffer<T> from(x, shift(0)), to(n, shift(1));
    const Buffer<float> b(bias, shift(2));
    launch_gelu(to.data(), from.data(), biased ? b.data() : nullptr, size, nullptr);
    return same_nans(to.values());
  });
  EXPECT_TRUE(same_bits(got, same_nans(want))) << text(size) << ", " << shift;
}

template <class T>
void expect_gelu_backward(Rows size, Shifts shift, bool whole) {
  const int64_t n = size.rows * size.width, slices = slices_of(size.rows);
  const auto x = Random(3).reals<T>(n, 6.0f), dy = Random(4).reals<T>(n, 2.0f);
  const auto bias = Random(5).reals<float>(size.width, 1.0f);
  std::vector<T> dx(x.size()), value(x.size());
  std::vector<float> terms(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    const float b = bias[i % static_cast<std::size_t>(size.width)];
    const Activation f = gelu(whole ? widen(x[i]) + b : widen(x[i]));
    terms[i] = widen(dy[i]) * f.slope;
    dx[i] = narrow<T>(terms[i]);
    value[i] = narrow<T>(f.value);
  }
  const auto got = in_every_schedule([&] {
    const Buffer<T> from(x, shift(0)), grad(dy, shift(1)), to(n, shift(2)), again(n, shift(3));
    const Buffer<float> b(bias, shift(4)), sums(slices * size.width, shift(5));
    const GeluGradients<T> gradients{to.data(), whole ? again.data() : nullptr,
                                     whole ? sums.data() : nullptr};
    launch_gelu_backward(gradients, grad.data(), from.data(), whole ? b.data() : nullptr, size,
                         nullptr);
    return std::tuple(to.values(), again.values(), sums.values());
  });
  EXPECT_TRUE(same_bits(std::get<0>(got), dx)) << text(size) << ", " << shift;
  if (!whole) return;
  EXPECT_TRUE(same_bits(std::get<1>(got), value)) << text(size) << ", " << shift;
  EXPECT_TRUE(same_bits(std::get<2>(got), sums_of_slices(terms, size)))
      << text(size) << ", " << shift;
}

// Of rows of gate and up with `margin` elements between them.
template <class T>
void expect_swiglu(Rows size, int64_t margin, Shifts shift, bool whole) {
  const int64_t n = size.rows * size.width, slices = slices_of(size.rows);
  const int64_t stride = size.width + margin;
  const auto gate = Random(6).reals<T>(size.rows * stride, 6.0f),
             up = Random(7).reals<T>(size.rows * stride, 3.0f);
  const auto dy = Random(8).reals<T>(n, 2.0f);
  const auto gate_bias = Random(9).reals<float>(size.width, 1.0f),
             up_bias = Random(10).reals<float>(size.width, 1.0f);
  std::vector<T> y(static_cast<std::size_t>(n)), dgate = gate, dup = up;
  std::vector<float> gate_terms(y.size()), up_terms(y.size());
  for (int64_t row = 0; row < size.rows; ++row) {
    for (int64_t j = 0; j < size.width; ++j) {
      const std::size_t i = at(row, j, size.width), k = at(row, j, stride);
      const auto column = static_cast<std::size_t>(j);
      const float g = whole ? widen(gate[k]) + gate_bias[column] : widen(gate[k]);
      const float u = whole ? widen(up[k]) + up_bias[column] : widen(up[k]);
      y[i] = narrow<T>(swiglu(g, u));
      const Swiglu f = swiglu_backward(widen(dy[i]), g, u);
      EXPECT_TRUE(same_bits(std::vector<T>{narrow<T>(f.value)}, std::vector<T>{y[i]}));
      gate_terms[i] = f.gate;
      up_terms[i] = f.up;
      dgate[k] = narrow<T>(f.gate);
      dup[k] = narrow<T>(f.up);
    }
  }
  const auto got = in_every_schedule([&] {
    const Buffer<T> g(gate, shift(0)), u(up, shift(1)), grad(dy, shift(2));
    const Buffer<T> to(n, shift(3)), again(n, shift(4));
    const Buffer<T> to_gate(gate, shift(5)), to_up(up, shift(6));  // whose margins stay
    const Buffer<float> gb(gate_bias, shift(7)), ub(up_bias, shift(8));
    const Buffer<float> gs(slices * size.width, shift(9)), us(slices * size.width, shift(10));
    const SwigluInputs<T> inputs{g.data(), u.data(), stride, whole ? gb.data() : nullptr,
                                 whole ? ub.data() : nullptr};
    launch_swiglu(to.data(), inputs, size, nullptr);
    const SwigluGradients<T> gradients{to_gate.data(),
                                       to_up.data(),
                                       stride,
                                       whole ? again.data() : nullptr,
                                       whole ? gs.data() : nullptr,
                                       whole ? us.data() : nullptr};
    launch_swiglu_backward(gradients, grad.data(), inputs, size, nullptr);
    return std::tuple(to.values(), to_gate.values(), to_up.values(), again.values(), gs.values(),
                      us.values());
  });
  const auto& [got_y, got_gate, got_up, got_again, got_gate_sums, got_up_sums] = got;
  EXPECT_TRUE(same_bits(got_y, y)) << text(size) << ", margin " << margin << ", " << shift;
  EXPECT_TRUE(same_bits(got_gate, dgate)) << text(size) << ", " << shift;
  EXPECT_TRUE(same_bits(got_up, dup)) << text(size) << ", " << shift;
  if (!whole) return;
  EXPECT_TRUE(same_bits(got_again, y)) << text(size) << ", " << shift;
  EXPECT_TRUE(same_bits(got_gate_sums, sums_of_slices(gate_terms, size))) << size.width;
  EXPECT_TRUE(same_bits(got_up_sums, sums_of_slices(up_terms, size))) << size.width;
}

TYPED_TEST(ActivationTest, GeluIsTheFormulaInEveryBit) {
  for (const Rows& size : kCases) {
    for (const int64_t shift : {0, 1}) {
      for (const bool biased : {true, false}) expect_gelu<TypeParam>(size, shift, biased);
    }
  }
}

TYPED_TEST(ActivationTest, GeluBackwardIsTheFormulaInEveryBit) {
  for (const Rows& size : kCases) {
    for (const int64_t shift : {0, 1}) {
      for (const bool whole : {true, false}) expect_gelu_backward<TypeParam>(size, shift, whole);
    }
  }
}

TYPED_TEST(ActivationTest, SwigluAndItsGradientsAreTheFormulasInEveryBit) {
  for (const Rows& size : kCases) {
    for (const int64_t margin : {0, 8, 3}) {
      for (const bool whole : {true, false}) expect_swiglu<TypeParam>(size, margin, 0, whole);
    }
  }
  expect_swiglu<TypeParam>({33, 32}, 0, 1, true);
}

TYPED_TEST(ActivationTest, AnyPointerMayBeTheOneThatIsNotAligned) {
  const Rows size{3, 40};
  for (int only = 0; only < 3; ++only) expect_gelu<TypeParam>(size, {1, only}, true);
  for (int only = 0; only < 6; ++only) expect_gelu_backward<TypeParam>(size, {1, only}, true);
  for (int only = 0; only < 11; ++only) expect_swiglu<TypeParam>(size, 8, {1, only}, true);
}

TYPED_TEST(ActivationTest, BlocksTakeStripsOneAfterTheOther) {
  for (const unsigned blocks : {1u, 2u}) {
    const FewBlocks few(blocks);
    for (const int64_t width : {1, 8}) {
      const Rows size{51 * kSliceRows - 5, width};
      expect_gelu<TypeParam>(size, 0, true);
      expect_gelu_backward<TypeParam>(size, 0, true);
      expect_swiglu<TypeParam>(size, 0, 0, true);
    }
  }
}

class ActivationSumTest : public KernelTest {};

TEST_F(ActivationSumTest, AddsSlicesInTheirOrder) {
  for (const int64_t slices : {1, 2, 31, 32, 33, 100}) {
    for (const int64_t width : {1, 31, 33, 257}) {
      const auto sums = Random(11).reals<float>(slices * width, 1.0f);
      std::vector<float> want(static_cast<std::size_t>(width));
      for (int64_t j = 0; j < width; ++j) {
        want[static_cast<std::size_t>(j)] = ordered_sum<kSliceLanes>(
            slices, [&](int64_t slice) { return sums[at(slice, j, width)]; });
      }
      const auto run = [&] {
        const Buffer<float> from(sums, 1), to(width, 1);
        launch_add_slices(to.data(), from.data(), slices, width, nullptr);
        return to.values();
      };
      EXPECT_TRUE(same_bits(in_every_schedule(run), want)) << slices << " x " << width;
      const FewBlocks few(1);  // which takes all columns, one after the other
      EXPECT_TRUE(same_bits(in_every_schedule(run), want)) << slices << " x " << width;
    }
  }
}

// exp errs by less than 1 ulp, so z by 2^-23 relative; 1 + z, two quotients or a product, and the
// product with x round once each: under 4 units of 2^-23 in all. What u errs by, 4 units of |u|
// 2^-24 times the derivative of the logarithm of the sigmoid, at most 1, adds 2 |u| units more.
// Where e^-|u| is denormal it errs by 2^-149 instead, times x.
TEST_F(ActivationSumTest, FunctionsAreTheirFormulasInFloat64) {
  for (float x = -12.0f; x <= 12.0f; x += 0.00137f) {
    const double wide = x, u = std::sqrt(8 / M_PI) * (wide + 0.044715 * wide * wide * wide);
    const double sigmoid = 1 / (1 + std::exp(-u)), silu_sigmoid = 1 / (1 + std::exp(-wide));
    EXPECT_NEAR(
        gelu(x).value, wide * sigmoid,
        std::abs(wide * sigmoid) * (4 + 2 * std::abs(u)) * 0x1p-23 + std::abs(wide) * 0x1p-149);
    EXPECT_NEAR(silu(x).value, wide * silu_sigmoid, std::abs(wide * silu_sigmoid) * 4 * 0x1p-23);
    // Slopes of central differences: the step's square, 1e-8, times a third derivative below 10.
    const auto gelu64 = [](double v) {
      return v / (1 + std::exp(-std::sqrt(8 / M_PI) * (v + 0.044715 * v * v * v)));
    };
    const auto silu64 = [](double v) { return v / (1 + std::exp(-v)); };
    constexpr double h = 1e-4;
    // And in float32 a sum of two terms below 5, each with the errors above.
    const double tolerance = 1e-7 + 10 * (4 + 2 * std::min(std::abs(u), 20.0)) * 0x1p-23;
    EXPECT_NEAR(gelu(x).slope, (gelu64(wide + h) - gelu64(wide - h)) / (2 * h), tolerance);
    EXPECT_NEAR(silu(x).slope, (silu64(wide + h) - silu64(wide - h)) / (2 * h), tolerance);
  }
}

}  // namespace
}  // namespace rev::cuda
