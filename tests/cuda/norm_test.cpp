#include "cuda/norm.h"

#include <cmath>
#include <iterator>
#include <limits>
#include <tuple>
#include <vector>

#include "cuda/norm_math.h"
#include "cuda/slices_math.h"
#include "cuda/support/kernel_test.h"
#include "cuda/support/numbers.h"
#include "support/plain_norm.h"

namespace rev::cuda {
namespace {

using namespace testing;
using support::plain_norm;
using support::plain_norm_backward;
using support::PlainNorm;
using support::PlainNormGradients;

using Reals = std::vector<float>;

// Beyond kRowSizes: wide rows of several pieces, and rows that are too long to be kept.
std::vector<Size> row_sizes() {
  std::vector<Size> sizes(std::begin(kRowSizes), std::end(kRowSizes));
  for (const Size size : {Size{9, 768}, Size{1, 2048}, Size{2, 2056}, Size{1, 2051}}) {
    sizes.push_back(size);
  }
  return sizes;
}

template <class T>
Reals as_floats(const std::vector<T>& values) {
  Reals floats;
  for (const T value : values) floats.push_back(widen(value));
  return floats;
}

class NormTest : public KernelTest {};

template <class X>
void expect_norm(const std::vector<X>& x, Size size, bool centred, bool with_bias, Shifts shift) {
  Random random(2);
  const auto weight = random.reals<float>(size.width, 2), bias = random.reals<float>(size.width, 2);
  const float eps = 1e-5f;
  const PlainNorm want =
      plain_norm(as_floats(x), weight, with_bias ? bias : Reals(), eps, centred, size.rows);
  const auto got = in_every_schedule([&] {
    const Buffer<X> from(x, shift(0));
    const Buffer<float> w(weight, shift(1)), b(bias, shift(2)), y(size.rows * size.width, shift(3));
    const Buffer<BFloat16> y16(size.rows * size.width, shift(4));
    const Buffer<float> mean(size.rows, shift(5)), rstd(size.rows, shift(6));
    launch_norm<X>({y.data(), y16.data()}, {mean.data(), rstd.data()}, from.data(),
                   {w.data(), with_bias ? b.data() : nullptr, eps, centred},
                   {size.rows, size.width}, nullptr);
    return std::tuple(y.values(), y16.values(), mean.values(), rstd.values());
  });
  EXPECT_TRUE(same_bits(got, std::tuple(want.y, as<BFloat16>(want.y), want.mean, want.rstd)))
      << size << ", " << shift << ", centred " << centred;
}

TEST_F(NormTest, IsTheFormulaInEveryBit) {
  for (const Size size : row_sizes()) {
    for (const int64_t shift : {0, 1}) {
      Random random(1);
      const int64_t n = size.rows * size.width;
      expect_norm(random.reals<float>(n, 3), size, true, true, shift);
      expect_norm(random.reals<BFloat16>(n, 3), size, false, false, shift);
    }
  }
  Random random(3);
  expect_norm(random.reals<float>(4 * 40, 3), {4, 40}, false, true, 0);
  expect_norm(random.reals<BFloat16>(4 * 40, 3), {4, 40}, true, false, 0);
}

TEST_F(NormTest, KeepsWhatIsNotANumberInItsRowAndTinyNumbersExact) {
  const float infinity = std::numeric_limits<float>::infinity();
  const float tiny = std::numeric_limits<float>::denorm_min();
  Random random(4);
  const Size size{6, 40};
  Reals x = random.reals<float>(size.rows * size.width, 3);
  x[3] = std::numeric_limits<float>::quiet_NaN();
  x[40 + 7] = infinity;
  for (int64_t j = 0; j < 40; ++j) {
    x[static_cast<size_t>(2 * 40 + j)] = -0.0f;
    x[static_cast<size_t>(3 * 40 + j)] = j % 2 == 0 ? tiny : -tiny;
    x[static_cast<size_t>(4 * 40 + j)] = 3e38f;
  }
  const Reals ones(40, 1.0f), none(40, -0.0f);
  const Buffer<float> from(x), w(ones), b(none), y(240), mean(6), rstd(6);
  launch_norm<float>({y.data(), nullptr}, {mean.data(), rstd.data()}, from.data(),
                     {w.data(), b.data(), 1e-5f, true}, {6, 40}, nullptr);
  const PlainNorm want = plain_norm(x, ones, none, 1e-5f, true, size.rows);
  const Reals got = y.values();
  for (size_t i = 0; i < got.size(); ++i) {  // the bits of what is not a number are not promised
    if (want.y[i] != want.y[i]) {
      EXPECT_NE(got[i], got[i]) << i;
    } else {
      EXPECT_TRUE(same_bits(Reals{got[i]}, Reals{want.y[i]})) << i;
    }
  }
  EXPECT_NE(got[0], got[0]);
  EXPECT_NE(got[79], got[79]);
  EXPECT_EQ(rstd.values()[2], 1.0f / std::sqrt(1e-5f));
  EXPECT_NE(got[3 * 40], 0.0f);
}

// Left out where there are many that are alike: the gradients of parameters in wide rows, and dx of
// hundreds of rows.
template <class X, class G>
void expect_backward(Size size, bool centred, bool with_residual, Shifts shift) {
  const bool parameters = size.width < 100, rows = size.rows < 100;
  Random random(5);
  const int64_t n = size.rows * size.width;
  const auto x = random.reals<X>(n, 3), residual = random.reals<X>(n, 1);
  const auto dy = random.reals<G>(n, 1);
  const auto weight = random.reals<float>(size.width, 2);
  const PlainNorm forward = plain_norm(as_floats(x), weight, {}, 1e-5f, centred, size.rows);
  PlainNormGradients want =
      plain_norm_backward(as_floats(dy), as_floats(x), weight, forward, centred, size.rows);
  for (int64_t i = 0; with_residual && i < n; ++i) {
    want.x[static_cast<size_t>(i)] =
        widen(residual[static_cast<size_t>(i)]) + want.x[static_cast<size_t>(i)];
  }
  const auto got = in_every_schedule([&] {
    const Buffer<X> from(x, shift(0)), to(n, shift(1)), in_place(residual, shift(2));
    const Buffer<G> g(dy, shift(3));
    const Buffer<float> w(weight, shift(4)),
        scratch(2 * slices_of(size.rows) * size.width, shift(5));
    const Buffer<float> mean(forward.mean, shift(6)), rstd(forward.rstd, shift(7));
    const Buffer<float> dw(size.width, shift(8)), db(size.width, shift(9));
    X* dx = with_residual ? in_place.data() : to.data();
    launch_norm_backward<X, G>(
        {rows ? dx : nullptr, with_residual ? dx : nullptr, parameters ? dw.data() : nullptr,
         parameters ? db.data() : nullptr, parameters ? scratch.data() : nullptr},
        g.data(), {from.data(), w.data(), centred ? mean.data() : nullptr, rstd.data()},
        {size.rows, size.width}, nullptr);
    return std::tuple(!rows           ? std::vector<X>()
                      : with_residual ? in_place.values()
                                      : to.values(),
                      parameters ? dw.values() : Reals(), parameters ? db.values() : Reals());
  });
  if (!rows) want.x = Reals();
  if (!parameters) want.weight = want.bias = Reals();
  EXPECT_TRUE(same_bits(got, std::tuple(as<X>(want.x), want.weight, want.bias)))
      << size << ", " << shift << ", centred " << centred;
}

TEST_F(NormTest, GradientsAreTheFormulasInEveryBit) {
  for (const Size size : row_sizes()) {
    for (const int64_t shift : {0, 1}) {
      expect_backward<float, float>(size, true, false, shift);
      expect_backward<BFloat16, BFloat16>(size, false, true, shift);
    }
  }
  // Rows around a slice and around the slices that are added up at a time; mixed precisions.
  for (const int64_t rows : {31, 32, 33, 1024, 1057}) {
    expect_backward<float, BFloat16>({rows, 8}, true, true, 0);
    expect_backward<BFloat16, float>({rows, 3}, true, false, 0);
  }
  expect_backward<float, BFloat16>({40, 72}, false, true, 0);
  expect_backward<BFloat16, float>({40, 72}, true, false, 0);
}

TEST_F(NormTest, AnyPointerMayBeTheOneThatIsNotAligned) {
  const Size size{2, 40};
  for (int only = 0; only < 7; ++only) {
    Random random(1);
    expect_norm(random.reals<float>(80, 3), size, true, true, {1, only});
    expect_norm(random.reals<BFloat16>(80, 3), size, true, true, {1, only});
  }
  for (int only = 0; only < 10; ++only) {
    for (const bool with_residual : {true, false}) {
      expect_backward<float, BFloat16>(size, true, with_residual, {1, only});
      expect_backward<BFloat16, float>(size, true, with_residual, {1, only});
    }
  }
}

TEST_F(NormTest, BlocksTakeRowsAndSlicesOneAfterTheOther) {
  for (const unsigned blocks : {1u, 2u}) {
    const FewBlocks few(blocks);
    for (const int64_t width : {33, 40}) {
      expect_norm(Random(1).reals<float>(51 * width, 3), {51, width}, true, true, 0);
      expect_backward<float, float>({99, width}, true, false, 0);
    }
  }
}

TEST_F(NormTest, WritesOnlyTheGradientsThatAreWanted) {
  const Size size{33, 40};
  Random random(6);
  const auto x = random.reals<float>(33 * 40, 3), dy = random.reals<float>(33 * 40, 1);
  const auto weight = random.reals<float>(40, 2);
  const PlainNorm forward = plain_norm(x, weight, {}, 1e-5f, true, size.rows);
  const PlainNormGradients want = plain_norm_backward(dy, x, weight, forward, true, size.rows);
  for (unsigned wanted = 0; wanted < 8; ++wanted) {
    const Buffer<float> from(x), g(dy), w(weight), mean(forward.mean), rstd(forward.rstd);
    const Buffer<float> dx(33 * 40), dw(40), db(40), scratch(2 * 2 * 40);
    launch_norm_backward<float, float>(
        {(wanted & 1u) != 0 ? dx.data() : nullptr, nullptr,
         (wanted & 2u) != 0 ? dw.data() : nullptr, (wanted & 4u) != 0 ? db.data() : nullptr,
         (wanted & 6u) != 0 ? scratch.data() : nullptr},
        g.data(), {from.data(), w.data(), mean.data(), rstd.data()}, {33, 40}, nullptr);
    if ((wanted & 1u) != 0) {
      EXPECT_TRUE(same_bits(dx.values(), want.x)) << wanted;
    }
    if ((wanted & 2u) != 0) {
      EXPECT_TRUE(same_bits(dw.values(), want.weight)) << wanted;
    }
    if ((wanted & 4u) != 0) {
      EXPECT_TRUE(same_bits(db.values(), want.bias)) << wanted;
    }
  }
}

TEST_F(NormTest, ParametersOfNoRowsHaveNoGradient) {
  const Buffer<float> none(0), dw(40), db(40);
  launch_norm_backward<float, float>({nullptr, nullptr, dw.data(), db.data(), none.data()},
                                     none.data(), {none.data(), none.data(), nullptr, nullptr},
                                     {0, 40}, nullptr);
  EXPECT_TRUE(same_bits(dw.values(), Reals(40, 0.0f)));
  EXPECT_TRUE(same_bits(db.values(), Reals(40, 0.0f)));
}

}  // namespace
}  // namespace rev::cuda
