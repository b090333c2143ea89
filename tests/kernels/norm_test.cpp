#include "rev/kernels/norm.h"

#include <ATen/Parallel.h>
#include <cmath>
#include <gtest/gtest.h>
#include <limits>
#include <torch/torch.h>
#include <vector>

#include "kernels/row_sum.h"
#include "support/plain_norm.h"
#include "support/throws.h"

namespace rev::kernels {
namespace {

using at::Tensor;
using support::plain_norm;
using support::plain_norm_backward;

constexpr int64_t kBits = 16;
constexpr double kEps = 1e-5;
const double kUnit = std::pow(2.0, -24);  // a rounding of float32

// Lengths around the widths of vector registers and of the running sums, and rows around a slice.
const std::vector<std::vector<int64_t>> kShapes = {{1, 1},    {3, 7},     {2, 5, 31}, {32},
                                                   {33, 33},  {4, 64},    {2, 257},   {5, 1023},
                                                   {70, 384}, {1100, 24}, {3, 2100}};

struct Inputs {
  Tensor x, weight, bias, grad;
};

Inputs inputs(at::IntArrayRef shape) {
  torch::manual_seed(61);
  return {torch::randn(shape) * 2 + 0.5, torch::randn({shape.back()}), torch::randn({shape.back()}),
          torch::randn(shape)};
}

std::vector<float> values(const Tensor& t) {
  const Tensor flat = t.to(at::kFloat).contiguous();
  return std::vector<float>(flat.const_data_ptr<float>(),
                            flat.const_data_ptr<float>() + flat.numel());
}

Tensor tensor(const std::vector<float>& v, at::IntArrayRef shape) {
  return torch::tensor(v).view(shape);
}

int64_t rows_of(const Tensor& x) { return x.numel() / x.size(-1); }

// Additions on the way of a term to its row's sum: one for each 256 terms, then eight halvings.
double depth(const Tensor& x) { return static_cast<double>(x.size(-1)) / 256 + 1 + 8; }

// In float64: the norm, and how far float32 may be from it.
struct Exact {
  Tensor n, y, rstd;  // n: the normed rows
  Tensor error_n, error_y;

  Exact(const Inputs& in, bool centred) {
    const Tensor x = in.x.to(at::kDouble), w = in.weight.to(at::kDouble);
    const Tensor d = centred ? x - x.mean(-1, true) : x;
    rstd = (d.square().mean(-1, true) + kEps).rsqrt();
    n = d * rstd;
    y = centred ? n * w + in.bias.to(at::kDouble) : n * w;
    // Of the mean: `depth` roundings of partial sums, the product with 1 / C and its rounding, and
    // that of the difference, each of at most the largest |x|: what they make of n is rstd times
    // that. Of rstd: the squares' rounding and `depth` of the sum, 1 / C, eps, root and quotient,
    // half of which counts under the root; and two roundings of n. Twice that, for the squares of
    // the mean's error, which are left out.
    const Tensor largest = x.abs().amax(-1, true);
    error_n = 2 * kUnit * ((depth(x) + 3) * largest * rstd + (depth(x) + 8) * n.abs());
    error_y = error_n * w.abs() + 2 * kUnit * (y.abs() + (n * w).abs());
  }
};

void expect_within(const Tensor& got, const Tensor& want, const Tensor& error) {
  EXPECT_EQ(got.sizes(), want.sizes());
  EXPECT_LE(((got.to(at::kDouble) - want).abs() / error).max().item<double>(), 1.0);
}

TEST(NormTest, AreTheirFormulas) {
  for (const auto& shape : kShapes) {
    const Inputs in = inputs(shape);
    const Normed layer = layer_norm(in.x, in.weight, in.bias, kEps, at::kFloat);
    const Exact exact(in, true), root(in, false);
    expect_within(layer.y, exact.y, exact.error_y);
    const Normed rms = rms_norm(in.x, in.weight, kEps, at::kFloat);
    expect_within(rms.y, root.y, root.error_y);
    EXPECT_FALSE(rms.mean.defined());
    EXPECT_EQ(layer.mean.sizes(), at::IntArrayRef({rows_of(in.x)}));
    EXPECT_EQ(rms.rstd.sizes(), at::IntArrayRef({rows_of(in.x)}));
    // As above, without n's own roundings.
    EXPECT_TRUE(
        at::allclose(rms.rstd.to(at::kDouble), root.rstd.view(-1), (depth(in.x) + 8) * kUnit, 0));
  }
}

TEST(NormTest, SumsOfRowsAreOrderedSums) {
  torch::manual_seed(62);
  const std::vector<float> x = values(torch::randn({1200})), w = values(torch::randn({1200}));
  const float *a = x.data(), *b = w.data();
  for (int64_t n = 0; n <= 1200; ++n) {
    const float ours =
        row_sum(n, [=](auto j) REV_INLINE_LAMBDA { return at(a, j) * at(b, j) - 0.5f; });
    const float plain = cuda::ordered_sum<32>(n, [=](int64_t j) { return a[j] * b[j] - 0.5f; });
    EXPECT_EQ(ours, plain) << n;
  }
}

TEST(NormTest, HaveTheBitsOfPlainLoopsOverRowsOfEitherPrecision) {
  for (const auto& shape : kShapes) {
    for (const auto dtype : {at::kFloat, at::kBFloat16}) {
      for (const bool centred : {true, false}) {
        Inputs in = inputs(shape);
        in.x = in.x.to(dtype);
        const auto run = [&](const Tensor& bias, at::ScalarType to) {
          return centred ? layer_norm(in.x, in.weight, bias, kEps, to)
                         : rms_norm(in.x, in.weight, kEps, to);
        };
        const auto plain = [&](const Tensor& bias) {
          return plain_norm(values(in.x), values(in.weight),
                            bias.defined() ? values(bias) : std::vector<float>(),
                            static_cast<float>(kEps), centred, rows_of(in.x));
        };
        const Tensor none, bias = centred ? in.bias : none;
        const Normed got = run(bias, at::kFloat);
        const auto want = plain(bias);
        EXPECT_TRUE(at::equal(got.y, tensor(want.y, shape))) << shape << dtype;
        EXPECT_TRUE(at::equal(got.rstd, tensor(want.rstd, {rows_of(in.x)}))) << shape;
        if (centred) {
          EXPECT_TRUE(at::equal(got.mean, tensor(want.mean, {rows_of(in.x)}))) << shape;
        }
        EXPECT_TRUE(at::equal(run(bias, at::kBFloat16).y, got.y.to(at::kBFloat16))) << shape;
        EXPECT_TRUE(at::equal(run(none, at::kFloat).y, tensor(plain(none).y, shape))) << shape;
      }
    }
  }
}

TEST(NormTest, GradientsAreThoseOfTheFormulas) {
  for (const auto& shape : kShapes) {
    for (const bool centred : {true, false}) {
      const Inputs in = inputs(shape);
      const Tensor x = in.x.to(at::kDouble).requires_grad_();
      const Tensor w = in.weight.to(at::kDouble).requires_grad_();
      const Tensor b = in.bias.to(at::kDouble).requires_grad_();
      const Tensor d = centred ? x - x.mean(-1, true) : x;
      const Tensor y = d / (d.square().mean(-1, true) + kEps).sqrt() * w + b;
      const auto want = torch::autograd::grad({y}, {x, w, b}, {in.grad.to(at::kDouble)});

      NormGradients got;
      if (centred) {
        const Normed f = layer_norm(in.x, in.weight, in.bias, kEps, at::kFloat);
        got = layer_norm_backward(in.grad, in.x, in.weight, f.mean, f.rstd);
      } else {
        const Normed f = rms_norm(in.x, in.weight, kEps, at::kFloat);
        got = rms_norm_backward(in.grad, in.x, in.weight, f.rstd);
        EXPECT_FALSE(got.bias.defined());
      }
      const Exact exact(in, centred);
      const Tensor g = in.grad.to(at::kDouble).abs();
      const Tensor dn = (g * w.detach().abs());
      const Tensor most_d = dn.amax(-1, true), most_n = exact.n.abs().amax(-1, true);
      // dx is rstd times three terms of at most D, D and N (N D), D and N the row's largest d and
      // n. Sums and products round `depth` + 4 times; n's error counts in each n, and rstd's is
      // less than n's where |n| is 1 or more, which it is somewhere in the row but for eps.
      const Tensor most = most_d * (1 + most_n) * (1 + most_n);
      const Tensor error_n = exact.error_n.amax(-1, true);
      const Tensor error_x = exact.rstd * most * (2 * error_n + (depth(in.x) + 12) * kUnit) + 1e-30;
      expect_within(got.x, want[0], error_x.expand_as(want[0]));
      // Of the sum over rows: 32 additions in a slice, then those of the slices.
      const double rows = static_cast<double>(rows_of(in.x));
      const double additions = 32 + rows / (32 * 32) + 1 + 5;
      const Tensor terms = (g * exact.n.abs()).view({-1, x.size(-1)}).sum(0);
      const Tensor of_n = (g * exact.error_n).view({-1, x.size(-1)}).sum(0);
      expect_within(got.weight, want[1], of_n + (additions + 1) * kUnit * terms);
      if (centred) {
        expect_within(got.bias, want[2],
                      additions * kUnit * g.view({-1, x.size(-1)}).sum(0) + 1e-30);
      }
    }
  }
}

TEST(NormTest, GradientsHaveTheBitsOfPlainLoopsOverRowsOfEitherPrecision) {
  for (const auto& shape : kShapes) {
    for (const auto dtype : {at::kFloat, at::kBFloat16}) {
      for (const auto grad_dtype : {at::kFloat, at::kBFloat16}) {
        const bool centred = dtype == grad_dtype;
        Inputs in = inputs(shape);
        in.x = in.x.to(dtype);
        in.grad = in.grad.to(grad_dtype);
        const auto x = values(in.x), weight = values(in.weight);
        const int64_t rows = rows_of(in.x), n = shape.back();
        const auto forward = plain_norm(x, weight, {}, static_cast<float>(kEps), centred, rows);
        const auto want = plain_norm_backward(values(in.grad), x, weight, forward, centred, rows);
        const Tensor mean = tensor(forward.mean, {rows}), rstd = tensor(forward.rstd, {rows});
        const auto run = [&](const NormGradientOptions& options) {
          return centred ? layer_norm_backward(in.grad, in.x, in.weight, mean, rstd, options)
                         : rms_norm_backward(in.grad, in.x, in.weight, rstd, options);
        };
        const Tensor dx = tensor(want.x, shape);
        const NormGradients got = run({});
        EXPECT_TRUE(at::equal(got.x, dx.to(dtype))) << shape << dtype << grad_dtype;
        EXPECT_TRUE(at::equal(got.weight, tensor(want.weight, {n}))) << shape;
        if (centred) {
          EXPECT_TRUE(at::equal(got.bias, tensor(want.bias, {n}))) << shape;
        }

        const Tensor residual = torch::randn(shape).to(dtype), sum = residual.to(at::kFloat) + dx;
        NormGradientOptions options;
        options.residual = residual;
        const NormGradients added = run(options);
        EXPECT_TRUE(added.x.is_same(residual));
        EXPECT_TRUE(at::equal(residual, sum.to(dtype))) << shape << dtype << grad_dtype;
        EXPECT_TRUE(at::equal(added.weight, got.weight)) << shape;
      }
    }
  }
}

TEST(NormTest, OnlyTheGradientsThatAreAskedForAreMade) {
  const Inputs in = inputs({40, 33});
  const Normed f = layer_norm(in.x, in.weight, in.bias, kEps, at::kFloat);
  const NormGradients all = layer_norm_backward(in.grad, in.x, in.weight, f.mean, f.rstd);
  for (int wanted = 0; wanted < 8; ++wanted) {
    NormGradientOptions options;
    options.x = (wanted & 1) != 0;
    options.weight = (wanted & 2) != 0;
    options.bias = (wanted & 4) != 0;
    const NormGradients got =
        layer_norm_backward(in.grad, in.x, in.weight, f.mean, f.rstd, options);
    EXPECT_EQ(got.x.defined() && at::equal(got.x, all.x), options.x) << wanted;
    EXPECT_EQ(got.weight.defined() && at::equal(got.weight, all.weight), options.weight) << wanted;
    EXPECT_EQ(got.bias.defined() && at::equal(got.bias, all.bias), options.bias) << wanted;
  }
}

TEST(NormTest, BitsDoNotDependOnTheNumberOfThreads) {
  const Inputs in = inputs({700, 257});
  const Tensor cells = torch::randint(-(1 << 20), 1 << 20, {700, 257}, at::kInt);
  const auto run = [&](int threads) {
    at::set_num_threads(threads);
    const Normed f = layer_norm(in.x, in.weight, in.bias, kEps, at::kFloat);
    const NormGradients g = layer_norm_backward(in.grad, in.x, in.weight, f.mean, f.rstd);
    Tensor y = cells.clone();
    StateNorm norm;
    norm.weight = in.weight;
    const NormedState state = update_norm_(y, in.grad, 0.3, kBits, norm);
    return std::vector<Tensor>{f.y, f.mean, f.rstd, g.x, g.weight, g.bias, y, state.norm.y};
  };
  const int threads = at::get_num_threads();
  const auto one = run(1);
  for (const int many : {2, 3}) {
    const auto others = run(many);
    for (size_t i = 0; i < one.size(); ++i) EXPECT_TRUE(at::equal(one[i], others[i])) << i;
  }
  at::set_num_threads(threads);
}

TEST(NormTest, ReadViewsAsTheyAre) {
  const Inputs in = inputs({12, 24});
  const Tensor x = in.x.t().contiguous().t(), grad = in.grad.t().contiguous().t();
  const Tensor weight = torch::stack({in.weight, in.bias}, 1).select(1, 0);
  ASSERT_FALSE(x.is_contiguous() || grad.is_contiguous() || weight.is_contiguous());
  const Normed f = layer_norm(x, weight, in.bias, kEps, at::kFloat);
  const Normed same = layer_norm(in.x, in.weight, in.bias, kEps, at::kFloat);
  EXPECT_TRUE(at::equal(f.y, same.y));
  EXPECT_TRUE(at::equal(layer_norm_backward(grad, x, weight, f.mean, f.rstd).x,
                        layer_norm_backward(in.grad, in.x, in.weight, f.mean, f.rstd).x));
}

TEST(NormTest, NoRowsHaveGradientsOfZero) {
  const Inputs in = inputs({0, 5});
  const Normed f = layer_norm(in.x, in.weight, in.bias, kEps, at::kFloat);
  EXPECT_EQ(f.y.sizes(), at::IntArrayRef({0, 5}));
  EXPECT_EQ(f.mean.sizes(), at::IntArrayRef({0}));
  const NormGradients g = layer_norm_backward(in.grad, in.x, in.weight, f.mean, f.rstd);
  EXPECT_EQ(g.x.sizes(), at::IntArrayRef({0, 5}));
  EXPECT_TRUE(at::equal(g.weight, at::zeros({5})));
  EXPECT_TRUE(at::equal(g.bias, at::zeros({5})));
}

TEST(NormTest, WhatIsNotANumberStaysInItsRow) {
  const Inputs in = inputs({4, 40});
  in.x[1][3] = std::numeric_limits<float>::quiet_NaN();
  in.x[2][39] = std::numeric_limits<float>::infinity();
  in.x[3].fill_(0.25);  // a sum without rounding: no deviation, and y is the bias
  for (const auto dtype : {at::kFloat, at::kBFloat16}) {
    const Tensor y = layer_norm(in.x, in.weight, in.bias, kEps, dtype).y;
    EXPECT_TRUE(y[0].isfinite().all().item<bool>());
    EXPECT_TRUE(y[1].isnan().all().item<bool>());
    EXPECT_TRUE(y[2].isnan().all().item<bool>());
    EXPECT_TRUE(at::equal(y[3], in.bias.to(dtype)));
  }
}

// An update by its name, with its norm and without.
struct Update {
  const char* name;
  std::function<NormedState(Tensor&, const Tensor&, const Tensor&, double, const StateNorm&,
                            const Probe&)>
      fused;
  std::function<void(Tensor&, const Tensor&, const Tensor&, double, const Probe&)> plain;
};

const std::vector<Update> kUpdates = {
    {"update",
     [](Tensor& y, const Tensor&, const Tensor& f, double c, const StateNorm& norm,
        const Probe& probe) { return update_norm_(y, f, c, kBits, norm, probe); },
     [](Tensor& y, const Tensor&, const Tensor& f, double c, const Probe& probe) {
       update_(y, f, c, kBits, probe);
     }},
    {"reflect",
     [](Tensor& y, const Tensor& x, const Tensor& f, double c, const StateNorm& norm,
        const Probe& probe) { return reflect_norm_(y, x, f, c, kBits, norm, probe); },
     [](Tensor& y, const Tensor& x, const Tensor& f, double c, const Probe& probe) {
       reflect_(y, x, f, c, kBits, probe);
     }},
    {"blend",
     [](Tensor& y, const Tensor& x, const Tensor& f, double c, const StateNorm& norm,
        const Probe& probe) { return blend_norm_(y, x, -0.25, f, c, kBits, norm, probe); },
     [](Tensor& y, const Tensor& x, const Tensor& f, double c, const Probe& probe) {
       blend_(y, x, -0.25, f, c, kBits, probe);
     }}};

void expect_fused(const Update& update, const Tensor& state, const Tensor& other, const Tensor& f,
                  double c, const StateNorm& norm) {
  const int64_t rows = rows_of(state);
  const auto probe = [&] {
    return Probe{at::full({rows}, -1, at::kLong), at::full({rows}, -1, at::kLong),
                 at::zeros({1}, at::kInt)};
  };
  Tensor fused = state.clone(), plain = state.clone();
  const Probe fused_probe = probe(), plain_probe = probe();
  const NormedState got = update.fused(fused, other, f, c, norm, fused_probe);
  update.plain(plain, other, f, c, plain_probe);
  const Tensor value = decode(plain, kBits);
  const Normed want = norm.kind == NormKind::Layer
                          ? layer_norm(value, norm.weight, norm.bias, norm.eps, norm.dtype)
                          : rms_norm(value, norm.weight, norm.eps, norm.dtype);
  EXPECT_TRUE(at::equal(fused, plain)) << update.name << state.sizes();
  EXPECT_TRUE(at::equal(fused_probe.before, plain_probe.before)) << update.name << state.sizes();
  EXPECT_TRUE(at::equal(fused_probe.after, plain_probe.after)) << update.name << state.sizes();
  EXPECT_TRUE(at::equal(fused_probe.saturated, plain_probe.saturated)) << update.name;
  EXPECT_EQ(got.norm.y.scalar_type(), norm.dtype);
  EXPECT_TRUE(at::equal(got.norm.y, want.y)) << update.name << state.sizes() << norm.dtype;
  EXPECT_TRUE(at::equal(got.norm.rstd, want.rstd)) << update.name << state.sizes();
  EXPECT_EQ(got.norm.mean.defined(), norm.kind == NormKind::Layer);
  if (got.norm.mean.defined()) {
    EXPECT_TRUE(at::equal(got.norm.mean, want.mean)) << update.name;
  }
  EXPECT_EQ(got.value.defined(), norm.value.has_value());
  if (norm.value) {
    EXPECT_TRUE(at::equal(got.value, value.to(*norm.value))) << update.name;
  }
}

TEST(NormTest, UpdatesWithNormsAreUpdateDecodeAndNormInEveryBit) {
  const std::optional<at::ScalarType> kValues[] = {std::nullopt, at::kFloat, at::kBFloat16};
  int next = 0;
  for (const auto& shape : kShapes) {
    const Inputs in = inputs(shape);
    const Tensor state = torch::randint(-(1 << 20), 1 << 20, shape, at::kInt);
    const Tensor other = torch::randint(-(1 << 20), 1 << 20, shape, at::kInt);
    for (const Update& update : kUpdates) {
      for (const auto dtype : {at::kFloat, at::kBFloat16, at::kDouble}) {
        for (const auto& value : kValues) {
          // Each of the long or many rows with some of the combinations.
          const int number = next++;
          if (state.numel() > 2000 && number % 5 != 0) continue;
          StateNorm norm;
          norm.kind = number % 3 == 0 ? NormKind::Rms : NormKind::Layer;
          norm.weight = in.weight;
          if (number % 3 == 1) norm.bias = in.bias;
          norm.dtype = number % 2 == 0 ? at::kFloat : at::kBFloat16;
          norm.value = value;
          expect_fused(update, state, other, in.grad.to(dtype), 0.7, norm);
        }
      }
    }
  }
}

TEST(NormTest, UpdatesWithNormsFlagWhatLeavesTheRangeAndAreUndone) {
  const Inputs in = inputs({6, 48});
  const Tensor state = torch::randint(-(1 << 30), 1 << 30, {6, 48}, at::kInt);
  const Tensor other = torch::randint(-(1 << 20), 1 << 20, {6, 48}, at::kInt);
  StateNorm norm;
  norm.weight = in.weight;
  norm.bias = in.bias;
  const Tensor f = in.grad * 3e4;
  for (const Update& update : kUpdates) expect_fused(update, state, other, f, 1.0, norm);

  Tensor y = state.clone(), flag = at::zeros({1}, at::kInt);
  update_norm_(y, f, 1.0, kBits, norm, {{}, {}, flag});
  EXPECT_EQ(flag.item<int32_t>(), 1);
  const Tensor back = update_norm_(y, f, -1.0, kBits, norm).norm.y;
  EXPECT_TRUE(at::equal(y, state));
  EXPECT_TRUE(at::equal(
      back, layer_norm(decode(state, kBits), in.weight, in.bias, norm.eps, at::kFloat).y));
}

TEST(NormTest, UpdatesOfFloatStatesTakeTheirNorm) {
  const Inputs in = inputs({6, 48});
  const Tensor other = torch::randn({6, 48});
  StateNorm norm;
  norm.weight = in.weight;
  norm.value = at::kBFloat16;
  for (const Update& update : kUpdates) expect_fused(update, in.x, other, in.grad, 0.7, norm);
}

TEST(NormTest, RefuseWhatDoesNotFit) {
  const Inputs in = inputs({6, 5});
  const Tensor none;
  const Normed f = layer_norm(in.x, in.weight, in.bias, kEps, at::kFloat);
  EXPECT_THROW_WITH(layer_norm(in.x.to(at::kDouble), in.weight, none, kEps, at::kFloat),
                    "layer_norm: x must be float32 or bfloat16, got Double");
  EXPECT_THROW_WITH(rms_norm(in.x, in.weight, kEps, at::kHalf),
                    "rms_norm: the result must be float32 or bfloat16, got Half");
  EXPECT_THROW_WITH(layer_norm(in.x, torch::ones({4}), none, kEps, at::kFloat),
                    "x is [6, 5] but weight [4], expected [..,C] and [C]");
  EXPECT_THROW_WITH(layer_norm(in.x, in.weight, torch::ones({5, 1}), kEps, at::kFloat),
                    "x is [6, 5] but bias [5, 1]");
  EXPECT_THROW_WITH(layer_norm(in.x, in.weight.to(at::kBFloat16), none, kEps, at::kFloat),
                    "weight must be float32 on cpu, got BFloat16");
  EXPECT_THROW_WITH(layer_norm(torch::ones({3, 0}), torch::ones({0}), none, kEps, at::kFloat),
                    "x is [3, 0]");
  EXPECT_THROW_WITH(layer_norm_backward(in.grad[0], in.x, in.weight, f.mean, f.rstd),
                    "layer_norm_backward: x is [6, 5] on cpu but grad [5] on cpu");
  EXPECT_THROW_WITH(layer_norm_backward(in.grad, in.x, in.weight, f.mean[0], f.rstd),
                    "mean must be float32 of 6 elements");
  EXPECT_THROW_WITH(layer_norm_backward(in.grad, in.x, in.weight, none, f.rstd),
                    "mean is undefined");
  EXPECT_THROW_WITH(rms_norm_backward(in.grad, in.x, in.weight, f.rstd.to(at::kDouble)),
                    "rstd must be float32 of 6 elements");
  NormGradientOptions options;
  options.residual = torch::zeros({5, 6}).t();
  EXPECT_THROW_WITH(rms_norm_backward(in.grad, in.x, in.weight, f.rstd, options),
                    "the residual gradient must be contiguous and like x, [6, 5] of Float");
  const Tensor memory = torch::zeros({7, 5});
  const Tensor first = memory.narrow(0, 0, 6), second = memory.narrow(0, 1, 6);
  options.residual = first;
  for (const Tensor& taken : {first, second}) {
    EXPECT_THROW_WITH(rms_norm_backward(taken, in.x, in.weight, f.rstd, options),
                      "rms_norm_backward: the residual gradient may not lie over grad");
    EXPECT_THROW_WITH(rms_norm_backward(in.grad, taken, in.weight, f.rstd, options),
                      "the residual gradient may not lie over x");
  }
  EXPECT_THROW_WITH(rms_norm_backward(in.grad, in.x, memory[2], f.rstd, options),
                    "the residual gradient may not lie over weight");
  EXPECT_THROW_WITH(layer_norm_backward(in.grad, in.x, in.weight, memory.flatten().narrow(0, 3, 6),
                                        f.rstd, options),
                    "the residual gradient may not lie over mean");
  EXPECT_THROW_WITH(
      rms_norm_backward(in.grad, in.x, in.weight, memory.flatten().narrow(0, 3, 6), options),
      "the residual gradient may not lie over rstd");

  EXPECT_THROW_WITH(layer_norm(in.x, none, none, kEps, at::kFloat),
                    "layer_norm: weight is undefined");
  EXPECT_THROW_WITH(rms_norm_backward(in.grad, in.x, none, f.rstd),
                    "rms_norm_backward: weight is undefined");
  const int64_t long_row = (int64_t{1} << 26) + 1;
  const Tensor wide = torch::zeros({1}).expand({0, long_row});
  EXPECT_THROW_WITH(layer_norm(wide, torch::zeros({1}).expand({long_row}), none, kEps, at::kFloat),
                    "layer_norm: a row of x has 67108865 elements, expected at most 67108864");

  StateNorm norm;
  norm.weight = in.weight;
  Tensor y = torch::zeros({6, 5}, at::kInt), exact = torch::zeros({6, 5}, at::kDouble);
  EXPECT_THROW_WITH(update_norm_(exact, in.grad, 1.0, kBits, norm), "or float32, got float64");
  EXPECT_THROW_WITH(update_norm_(y, in.grad[0], 1.0, kBits, norm), "[6, 5]");
  EXPECT_THROW_WITH(update_norm_(y, in.grad, 1.0, 31, norm), "grid bits must be 1 to 30, got 31");
  EXPECT_THROW_WITH(reflect_norm_(y, in.x, in.grad, 1.0, kBits, norm),
                    "the state is Int but x is Float");
  norm.value = at::kHalf;
  EXPECT_THROW_WITH(update_norm_(y, in.grad, 1.0, kBits, norm),
                    "update_norm_: the state's value must be float32 or bfloat16, got Half");
  norm.value.reset();
  norm.kind = NormKind::Rms;
  norm.bias = in.bias;
  EXPECT_THROW_WITH(update_norm_(y, in.grad, 1.0, kBits, norm), "RMSNorm has no bias");
  norm.weight = torch::ones({6});
  norm.bias = none;
  EXPECT_THROW_WITH(update_norm_(y, in.grad, 1.0, kBits, norm), "x is [6, 5] but weight [6]");
  EXPECT_TRUE(at::equal(y, torch::zeros({6, 5}, at::kInt)));
}

}  // namespace
}  // namespace rev::kernels
