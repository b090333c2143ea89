#include <algorithm>
#include <cmath>
#include <gtest/gtest.h>
#include <limits>
#include <vector>

#include "cuda/exp_math.h"
#include "cuda/support/same_bits.h"
#include "src/kernels/vectors.h"

namespace rev::cuda {
namespace {

using testing::same_bits;

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// Every 4093rd (a prime) of all bit patterns: 1 M arguments, of all exponents and both signs. All
// patterns with kStride = 1 take minutes, and gave the worst errors that are noted below.
constexpr uint64_t kStride = 4093;

std::vector<float> arguments() {
  std::vector<float> x;
  for (uint64_t bits = 0; bits < uint64_t{1} << 32; bits += kStride) {
    x.push_back(float_of(static_cast<uint32_t>(bits)));
  }
  return x;
}

// |got - want| in ulps of want, where float32 has the result.
double error_in_ulps(float got, double want) {
  int exponent = 0;
  std::frexp(want, &exponent);
  return std::fabs(got - want) / std::ldexp(1.0, std::max(exponent, -125) - 24);
}

// The largest error of f over the arguments x with inside(x); float64's own functions are the
// truth, being off by 2^-52 of it. Where float32 overflows, f must too.
template <class F, class G, class Inside>
double worst_error(const F& f, const G& truth, const Inside& inside) {
  double worst = 0;
  for (const float x : arguments()) {
    if (!inside(x)) continue;
    const float got = f(x);
    const double want = truth(static_cast<double>(x));
    if (std::isinf(static_cast<float>(want))) {
      EXPECT_EQ(got, static_cast<float>(want)) << x;
    } else {
      worst = std::max(worst, error_in_ulps(got, want));
    }
  }
  return worst;
}

TEST(ExpTest, ExpIsWithinItsBound) {
  const auto f = [](float x) { return exp(x); };
  const auto truth = [](double x) { return std::exp(x); };
  // 0.8961 at 26.7221527.
  EXPECT_LT(worst_error(f, truth, [](float x) { return x == x; }), 0.90);
  EXPECT_LT(error_in_ulps(exp(26.7221527f), std::exp(static_cast<double>(26.7221527f))), 0.90);
}

TEST(ExpTest, ExpOrZeroIsWithinItsBoundAndZeroBelow) {
  const auto f = [](float x) { return exp_or_zero(x); };
  const auto truth = [](double x) { return std::exp(x); };
  constexpr float kLeast = -0x1.5d589ep6f;
  EXPECT_LT(worst_error(f, truth, [](float x) { return x >= kLeast && x <= 88.0f; }), 0.90);
  EXPECT_EQ(exp_or_zero(kLeast), exp(kLeast));
  EXPECT_GE(exp_or_zero(kLeast), std::numeric_limits<float>::min());
  EXPECT_EQ(exp_or_zero(std::nextafter(kLeast, -kInf)), 0.0f);
  for (const float x : arguments()) {
    EXPECT_TRUE(!(x < kLeast) || exp_or_zero(x) == 0.0f) << x;
  }
}

TEST(ExpTest, LogIsWithinItsBound) {
  const auto f = [](float x) { return log(x); };
  const auto truth = [](double x) { return std::log(x); };
  // 0.8822 at 1.27499306.
  EXPECT_LT(worst_error(f, truth, [](float x) { return x > 0.0f && x < kInf; }), 0.89);
  EXPECT_LT(error_in_ulps(log(1.27499306f), std::log(static_cast<double>(1.27499306f))), 0.89);
}

TEST(ExpTest, SpecialValues) {
  EXPECT_EQ(exp(-kInf), 0.0f);
  EXPECT_EQ(exp(kInf), kInf);
  EXPECT_EQ(exp(0.0f), 1.0f);
  EXPECT_EQ(exp(-0.0f), 1.0f);
  EXPECT_LT(exp(0x1.62e42ep6f), kInf);  // the largest argument that does not overflow
  EXPECT_EQ(exp(std::nextafter(0x1.62e42ep6f, kInf)), kInf);
  EXPECT_EQ(exp(-103.9f), 0x1p-149f);
  EXPECT_EQ(exp(-103.98f), 0.0f);
  EXPECT_EQ(exp_or_zero(-kInf), 0.0f);
  EXPECT_EQ(exp_or_zero(0.0f), 1.0f);

  EXPECT_EQ(log(0.0f), -kInf);
  EXPECT_EQ(log(-0.0f), -kInf);
  EXPECT_EQ(log(kInf), kInf);
  EXPECT_EQ(bits_of(log(1.0f)), bits_of(0.0f));
  EXPECT_TRUE(std::isnan(log(-1.0f)) && std::isnan(log(-kInf)) && std::isnan(log(-0x1p-149f)));

  EXPECT_TRUE(std::isnan(exp(kNan)) && std::isnan(exp_or_zero(kNan)) && std::isnan(log(kNan)));
  // As GPUs write it.
  const float other = float_of(0x7fffffffu);
  EXPECT_TRUE(std::isnan(exp(other)) && std::isnan(exp_or_zero(other)) && std::isnan(log(other)));
}

using Row = std::vector<float>;

// One loop for all three, which differ for each vector width that the CPU can choose.
REV_VECTOR_WIDTHS void all_of_row(const float* x, int64_t n, float* y) {
  for (int64_t j = 0; j < n; ++j) y[j] = exp(x[j]);
  for (int64_t j = 0; j < n; ++j) y[n + j] = exp_or_zero(x[j]);
  for (int64_t j = 0; j < n; ++j) y[2 * n + j] = log(x[j]);
}

Row finite_arguments() {
  Row x = arguments();
  x.erase(std::remove_if(x.begin(), x.end(), [](float v) { return !(v == v); }), x.end());
  return x;
}

float without_payload(float x) { return x == x ? x : kNan; }

TEST(ExpTest, VectorsGiveTheBitsOfSingleCalls) {
  const Row x = finite_arguments();
  const std::size_t n = x.size();
  Row got(3 * n), want(3 * n);
  all_of_row(x.data(), static_cast<int64_t>(n), got.data());
  for (std::size_t j = 0; j < n; ++j) {
    want[j] = exp(x[j]);
    want[n + j] = exp_or_zero(x[j]);
    want[2 * n + j] = log(x[j]);
  }
  for (float& y : got) y = without_payload(y);
  for (float& y : want) y = without_payload(y);
  EXPECT_TRUE(same_bits(got, want));
}

TEST(ExpTest, TheBitsAreThoseOfEveryMachine) {
  const Row x = finite_arguments();
  Row y(3 * x.size());
  all_of_row(x.data(), static_cast<int64_t>(x.size()), y.data());
  uint64_t sum = 0;
  for (const float v : y) sum = sum * 0x9e3779b97f4a7c15u + bits_of(without_payload(v));
  EXPECT_EQ(sum, 17475478900936094899u);
}

}  // namespace
}  // namespace rev::cuda
