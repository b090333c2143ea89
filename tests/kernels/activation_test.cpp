#include "rev/kernels/activation.h"

#include <ATen/Parallel.h>
#include <cmath>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "support/throws.h"

namespace rev::kernels {
namespace {

using at::Tensor;

// Widths around those of vector registers; rows of less than a slice of 32, of one and of several.
const std::vector<std::vector<int64_t>> kShapes = {
    {0, 4}, {3, 0}, {1, 1}, {7, 31}, {2, 5, 33}, {32, 257}, {33, 1023}, {70, 64}, {1100, 16}};

// Half the distance from a number to the next, relatively.
double unit_of(at::ScalarType dtype) { return dtype == at::kFloat ? 0x1p-24 : 0x1p-8; }

// Of values and derivatives: the sigmoid is off by 4 units (exp_math.h's exp by 2, a sum, a
// quotient and a product by less than one each), its argument, below 20 where it matters, by 3
// units of itself, which the derivative, below 1/4 times e^-|u| u < 0.28, makes less than one; a
// product or three follow. With a rounding to the result's dtype.
double tolerance(at::ScalarType dtype) { return 12 * unit_of(at::kFloat) + unit_of(dtype); }

// |got - exact| <= tolerance (1 + |exact|).
::testing::AssertionResult close(const Tensor& got, const Tensor& exact, double tolerance) {
  const Tensor g = got.to(at::kDouble);
  if (at::allclose(g, exact, tolerance, tolerance)) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure()
         << "off by " << ((g - exact).abs() / (exact.abs() + 1)).max().item<double>() << ", not "
         << tolerance << ", in " << got.sizes() << " of " << got.scalar_type();
}

struct Numbers {
  Tensor x, bias, dy;
};

Numbers random_numbers(at::IntArrayRef shape, at::ScalarType dtype, at::ScalarType bias_dtype) {
  return {(torch::randn(shape) * 3).to(dtype), torch::randn({shape.back()}).to(bias_dtype),
          torch::randn(shape).to(dtype)};
}

Tensor wide(const Tensor& t) { return t.to(at::kDouble); }

Tensor over_rows(const Tensor& t) { return t.flatten(0, -2).sum(0); }

// A sum over n rows of terms of size 1, each off by `tolerance`. A term goes through at most 31
// sums in its slice, one with a slice 1024 rows on, and 5 of halves: with it less than 40
// roundings, each of a sum that grows as the root of n, as the terms' signs are random.
double sum_tolerance(int64_t rows) {
  return static_cast<double>(rows) * tolerance(at::kFloat) +
         40 * std::sqrt(static_cast<double>(rows)) * unit_of(at::kFloat);
}

template <class Body>
void for_all(const Body& body) {
  for (const auto& shape : kShapes) {
    for (const auto dtype : {at::kFloat, at::kBFloat16}) {
      body(shape, dtype, at::kFloat);
      if (dtype == at::kBFloat16) body(shape, dtype, at::kBFloat16);
    }
  }
}

TEST(ActivationKernelTest, GeluIsThatOfFloat64) {
  torch::manual_seed(101);
  for_all([](at::IntArrayRef shape, at::ScalarType dtype, at::ScalarType bias_dtype) {
    const Numbers n = random_numbers(shape, dtype, bias_dtype);
    EXPECT_TRUE(close(bias_gelu(n.x), at::gelu(wide(n.x), "tanh"), tolerance(dtype)));
    const Tensor y = bias_gelu(n.x, n.bias);
    EXPECT_TRUE(close(y, at::gelu(wide(n.x) + wide(n.bias), "tanh"), tolerance(dtype)));
    EXPECT_EQ(y.scalar_type(), dtype);
    EXPECT_EQ(y.sizes(), shape);
  });
}

TEST(ActivationKernelTest, GeluFarBelowZeroKeepsItsDigits) {
  // 1 + tanh would be 0 in float32 from -5.2 on.
  const Tensor x = torch::tensor({-3.0f, -5.0f, -7.0f, -10.0f});
  const Tensor z = wide(x) * (1 + 0.044715 * wide(x).square()) * std::sqrt(2 / M_PI);
  const Tensor exact = wide(x) * torch::sigmoid(2 * z);
  // The argument, down to -88, is off by 3 units of itself.
  EXPECT_TRUE(at::allclose(wide(bias_gelu(x)), exact, 3 * 88 * unit_of(at::kFloat), 0));
}

TEST(ActivationKernelTest, GeluBackwardIsThatOfFloat64) {
  torch::manual_seed(102);
  for_all([](at::IntArrayRef shape, at::ScalarType dtype, at::ScalarType bias_dtype) {
    const Numbers n = random_numbers(shape, dtype, bias_dtype);
    const Tensor exact = at::gelu_backward(wide(n.dy), wide(n.x) + wide(n.bias), "tanh");
    ActivationWants wants;
    wants.bias = wants.value = true;
    const GeluGradients got = bias_gelu_backward(n.dy, n.x, n.bias, wants);
    // Times dy, below 5.
    EXPECT_TRUE(close(got.x, exact, 5 * tolerance(at::kFloat) + unit_of(dtype)));
    EXPECT_TRUE(at::equal(got.value, bias_gelu(n.x, n.bias)));
    const int64_t rows = n.x.numel() / std::max<int64_t>(1, n.x.size(-1));
    EXPECT_TRUE(close(got.bias, over_rows(exact), 5 * sum_tolerance(rows) + unit_of(bias_dtype)));
    EXPECT_EQ(got.bias.scalar_type(), bias_dtype);

    const GeluGradients plain = bias_gelu_backward(n.dy, n.x);
    EXPECT_TRUE(close(plain.x, at::gelu_backward(wide(n.dy), wide(n.x), "tanh"),
                      5 * tolerance(at::kFloat) + unit_of(dtype)));
    EXPECT_FALSE(plain.bias.defined() || plain.value.defined());

    const Tensor memory = n.dy.clone();
    wants.reuse = true;
    EXPECT_TRUE(bias_gelu_backward(memory, n.x, n.bias, wants).x.is_same(memory));
    EXPECT_TRUE(at::equal(memory, got.x));
  });
}

TEST(ActivationKernelTest, SwigluIsThatOfFloat64) {
  torch::manual_seed(103);
  for_all([](at::IntArrayRef shape, at::ScalarType dtype, at::ScalarType bias_dtype) {
    const Numbers gate = random_numbers(shape, dtype, bias_dtype);
    const Numbers up = random_numbers(shape, dtype, bias_dtype);
    const auto exact = [](const Tensor& g, const Tensor& u) { return at::silu(g) * u; };
    // Times up, below 20.
    const double allowed = 20 * tolerance(at::kFloat) + unit_of(dtype);
    EXPECT_TRUE(close(swiglu(gate.x, up.x), exact(wide(gate.x), wide(up.x)), allowed));
    EXPECT_TRUE(close(swiglu(gate.x, up.x, gate.bias, up.bias),
                      exact(wide(gate.x) + wide(gate.bias), wide(up.x) + wide(up.bias)), allowed));
    EXPECT_TRUE(close(swiglu(gate.x, up.x, {}, up.bias),
                      exact(wide(gate.x), wide(up.x) + wide(up.bias)), allowed));
  });
}

TEST(ActivationKernelTest, SwigluBackwardIsThatOfFloat64) {
  torch::manual_seed(104);
  for_all([](at::IntArrayRef shape, at::ScalarType dtype, at::ScalarType bias_dtype) {
    const Numbers a = random_numbers(shape, dtype, bias_dtype);
    const Numbers b = random_numbers(shape, dtype, bias_dtype);
    ActivationWants wants;
    wants.bias = wants.value = true;
    const SwigluGradients got = swiglu_backward(a.dy, a.x, b.x, a.bias, b.bias, wants);
    const Tensor gate = wide(a.x) + wide(a.bias), up = wide(b.x) + wide(b.bias);
    const Tensor dgate = at::silu_backward(wide(a.dy) * up, gate);
    const Tensor dup = wide(a.dy) * at::silu(gate);
    // Times dy and up or silu, below 5 and 20.
    const double allowed = 100 * tolerance(at::kFloat) + unit_of(dtype);
    EXPECT_TRUE(close(got.gate, dgate, allowed));
    EXPECT_TRUE(close(got.up, dup, allowed));
    EXPECT_TRUE(at::equal(got.both, at::cat({got.gate, got.up}, -1)));
    EXPECT_TRUE(got.both.is_contiguous() && got.gate.is_alias_of(got.both));
    EXPECT_TRUE(at::equal(got.value, swiglu(a.x, b.x, a.bias, b.bias)));
    const int64_t rows = a.x.numel() / std::max<int64_t>(1, a.x.size(-1));
    EXPECT_TRUE(
        close(got.gate_bias, over_rows(dgate), 100 * sum_tolerance(rows) + unit_of(bias_dtype)));
    EXPECT_TRUE(
        close(got.up_bias, over_rows(dup), 100 * sum_tolerance(rows) + unit_of(bias_dtype)));
    EXPECT_EQ(got.gate_bias.scalar_type(), bias_dtype);

    const SwigluGradients plain = swiglu_backward(a.dy, a.x, b.x);
    EXPECT_TRUE(close(plain.gate, at::silu_backward(wide(a.dy) * wide(b.x), wide(a.x)), allowed));
    EXPECT_TRUE(close(plain.up, wide(a.dy) * at::silu(wide(a.x)), allowed));
    EXPECT_FALSE(plain.gate_bias.defined() || plain.up_bias.defined() || plain.value.defined());
  });
}

TEST(ActivationKernelTest, SwigluReadsTheHalvesOfOneTensorAndOtherViews) {
  torch::manual_seed(105);
  const Tensor both = torch::randn({3, 5, 34}), dy = torch::randn({3, 5, 17});
  const auto halves = both.chunk(2, -1);
  const Tensor gate = halves[0].contiguous(), up = halves[1].contiguous();
  EXPECT_TRUE(at::equal(swiglu(halves[0], halves[1]), swiglu(gate, up)));
  EXPECT_TRUE(at::equal(swiglu(halves[0], up), swiglu(gate, up)));
  EXPECT_TRUE(at::equal(swiglu_backward(dy, halves[0], halves[1]).both,
                        swiglu_backward(dy, gate, up).both));
  const Tensor turned = torch::randn({6, 4}).t(), other = torch::randn({6, 4}).t();
  EXPECT_TRUE(at::equal(swiglu(turned, other), swiglu(turned.contiguous(), other.contiguous())));
  EXPECT_TRUE(at::equal(bias_gelu(turned), bias_gelu(turned.contiguous())));
  EXPECT_TRUE(at::equal(bias_gelu_backward(other, turned).x,
                        bias_gelu_backward(other.contiguous(), turned.contiguous()).x));
}

TEST(ActivationKernelTest, BitsDoNotDependOnTheNumberOfThreads) {
  torch::manual_seed(106);
  const Tensor x = torch::randn({700, 97}), up = torch::randn({700, 97}),
               dy = torch::randn({700, 97});
  const Tensor bias = torch::randn({97});
  const auto run = [&](int threads) {
    at::set_num_threads(threads);
    ActivationWants wants;
    wants.bias = true;
    const auto g = bias_gelu_backward(dy, x, bias, wants);
    const auto s = swiglu_backward(dy, x, up, bias, bias, wants);
    return at::cat({bias_gelu(x, bias).view(-1), swiglu(x, up).view(-1), g.x.view(-1), g.bias,
                    s.both.view(-1), s.gate_bias, s.up_bias});
  };
  const int threads = at::get_num_threads();
  const Tensor one = run(1), two = run(2);
  at::set_num_threads(threads);
  EXPECT_TRUE(at::equal(one, two));
}

TEST(ActivationKernelTest, RefusesWhatDoesNotFit) {
  const Tensor x = torch::ones({2, 3});
  EXPECT_THROW_WITH(bias_gelu(x.to(at::kDouble)),
                    "bias_gelu: x must be float32 or bfloat16, got Double");
  EXPECT_THROW_WITH(bias_gelu(torch::ones({})), "bias_gelu: x is [], expected [..,F]");
  EXPECT_THROW_WITH(bias_gelu(torch::ones({1}).expand({0, (int64_t{1} << 26) + 1})),
                    "bias_gelu: a row of x has 67108865 elements, expected at most 67108864");
  EXPECT_THROW_WITH(bias_gelu(x, torch::ones({2})),
                    "a bias is Float [2] on cpu, expected float32 or");
  EXPECT_THROW_WITH(bias_gelu(x, torch::ones({3}, at::kDouble)), "a bias is Double [3]");
  EXPECT_THROW_WITH(bias_gelu_backward(torch::ones({3, 2}), x),
                    "x is Float [2, 3] on cpu, but dy is");
  EXPECT_THROW_WITH(bias_gelu_backward(torch::ones({3, 2}).t(), x, {}, {false, false, true}),
                    "dy is to be reused");
  EXPECT_THROW_WITH(swiglu(x, torch::ones({2, 4})), "gate is Float [2, 3] on cpu, but up is");
  EXPECT_THROW_WITH(swiglu_backward(x.to(at::kBFloat16), x, x), "but dy is BFloat16 [2, 3]");
}

}  // namespace
}  // namespace rev::kernels
