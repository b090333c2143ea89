#include "rev/nn/rotary.h"

#include <cmath>
#include <complex>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "support/gradcheck.h"
#include "support/throws.h"

namespace rev::nn {
namespace {

using at::Tensor;

RotaryOptions options(const std::string& scaling) {
  RotaryOptions o;
  o.width = 64;
  o.theta = 500000;
  o.scaling = scaling;
  o.factor = 8;
  return o;
}

// w_i in float64.
double plain(const RotaryOptions& o, int64_t i) {
  return std::pow(o.theta, -2.0 * static_cast<double>(i) / static_cast<double>(o.width));
}

void expect_frequencies(const RotaryOptions& o, const std::function<double(double)>& scaled) {
  const Tensor w = rotary_frequencies(o);
  EXPECT_EQ(w.scalar_type(), at::kFloat);
  ASSERT_EQ(w.numel(), o.width / 2);
  for (int64_t i = 0; i < w.numel(); ++i) {
    const double expected = scaled(plain(o, i));
    // The exponent, at most 1, is rounded by 2^-24, which the logarithm of theta, 13.2, amplifies;
    // the power, its inverse and the scaling round five times more.
    EXPECT_NEAR(w[i].item<double>(), expected, (13.2 + 6) * std::pow(2.0, -24) * expected) << i;
  }
}

TEST(RotaryTest, FrequenciesAreTheFormulas) {
  expect_frequencies(options("default"), [](double w) { return w; });
  expect_frequencies(options("linear"), [](double w) { return w / 8; });
  int64_t kept = 0, between = 0, divided = 0;
  expect_frequencies(options("llama3"), [&](double w) {
    const double length = 2 * M_PI / w;  // tokens of a turn
    if (length < 8192.0 / 4) return ++kept, w;
    if (length > 8192.0 / 1) return ++divided, w / 8;
    const double s = (8192 / length - 1) / (4 - 1);
    return ++between, (1 - s) * w / 8 + s * w;
  });
  EXPECT_GT(std::min({kept, between, divided}), 2);
}

TEST(RotaryTest, TurnsPointsByTheirPositionsAngle) {
  torch::manual_seed(11);
  const Tensor x = torch::randn({2, 3, 5, 8}, at::kDouble);
  const Tensor w = torch::tensor({1.0, 0.5, 0.01, 2.0}, at::kDouble);
  const Tensor y = rotate(x, w, /*first=*/7);
  const auto a = x.accessor<double, 4>(), b = y.accessor<double, 4>();
  for (int64_t h = 0; h < 3; ++h) {
    for (int64_t t = 0; t < 5; ++t) {
      for (int64_t i = 0; i < 4; ++i) {
        const std::complex<double> turned =
            std::complex(a[1][h][t][i], a[1][h][t][i + 4]) *
            std::polar(1.0, static_cast<double>(t + 7) * w[i].item<double>());
        // Four roundings of values below 4, and angles up to 22 rounded once: 1e-16 * 50.
        EXPECT_NEAR(b[1][h][t][i], turned.real(), 5e-15);
        EXPECT_NEAR(b[1][h][t][i + 4], turned.imag(), 5e-15);
      }
    }
  }
}

TEST(RotaryTest, GradientsAreThoseOfDifferences) {
  torch::manual_seed(12);
  const Tensor x = support::leaf({1, 2, 3, 4});
  const Tensor w = torch::tensor({1.0, 0.1}, at::kDouble);
  EXPECT_LT(support::gradient_error([&] { return rotate(x, w, 2); }, {x}),
            support::kGradientTolerance);
}

TEST(RotaryTest, RoundsBfloat16OnceAndGoesOnFromAnyPosition) {
  torch::manual_seed(13);
  const Tensor x = torch::randn({2, 2, 9, 64}).to(at::kBFloat16);
  const Tensor w = rotary_frequencies(options("default"));
  const Tensor y = rotate(x, w);
  EXPECT_EQ(y.scalar_type(), at::kBFloat16);
  EXPECT_TRUE(at::equal(y, rotate(x.to(at::kFloat), w).to(at::kBFloat16)));
  EXPECT_TRUE(at::equal(y.narrow(2, 4, 5), rotate(x.narrow(2, 4, 5), w, 4)));
}

TEST(RotaryTest, NamesWhatIsWrong) {
  RotaryOptions o = options("yarn");
  EXPECT_THROW_WITH(rotary_frequencies(o),
                    "unknown scaling \"yarn\", expected default, linear or llama3");
  o = options("linear");
  o.factor = 0;
  EXPECT_THROW_WITH(rotary_frequencies(o), "factor is 0");
  o = options("llama3");
  o.low_freq_factor = 4;
  EXPECT_THROW_WITH(rotary_frequencies(o), "low_freq_factor is 4, expected less");
  o = options("llama3");
  o.original_seq = 0;
  EXPECT_THROW_WITH(rotary_frequencies(o), "original_seq is 0");
  o = options("default");
  o.width = 7;
  EXPECT_THROW_WITH(rotary_frequencies(o), "the width of a head is 7, expected an even number");
  o = options("default");
  o.theta = -1;
  EXPECT_THROW_WITH(rotary_frequencies(o), "theta is -1");
  EXPECT_THROW_WITH(rotate(torch::ones({1, 1, 2, 6}), torch::ones({4})),
                    "x is [1, 1, 2, 6], expected [B,H,T,D] with D twice the 4 frequencies");
}

}  // namespace
}  // namespace rev::nn
