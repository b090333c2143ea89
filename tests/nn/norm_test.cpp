#include "rev/nn/norm.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "rev/base/autocast_state.h"
#include "rev/nn/linear.h"
#include "support/gradcheck.h"
#include "support/throws.h"

namespace rev::nn {
namespace {

using at::Tensor;

constexpr int64_t kWidth = 24;

// Sums of at most 24 terms, each a product of a few rounded factors, whose own error is that of
// such sums: fewer than 64 roundings of 2^-24, relative to the largest value.
void expect_near(const Tensor& got, const Tensor& want) {
  const double tolerance = 64 * 0x1p-24 * want.abs().max().item<double>();
  EXPECT_LE((got.to(at::kDouble) - want).abs().max().item<double>(), tolerance);
}

// Gradients of sum(w y), w a fixed pattern, of x and all parameters.
template <class Module>
std::vector<Tensor> gradients(Module& module, const Tensor& x) {
  const Tensor y = module->forward(x);
  std::vector<Tensor> inputs = module->parameters();
  inputs.push_back(x);
  const Tensor w = at::arange(1, y.numel() + 1, y.options()).cos().view(y.sizes());
  return torch::autograd::grad({(y * w).sum()}, inputs);
}

template <class Module>
void expect_float32_is_float64_rounded(Module module, Module exact) {
  const at::NoGradGuard no_grad;
  for (auto& p : module->parameters()) p.uniform_(0.5, 1.5);
  exact->to(at::kDouble);
  for (size_t i = 0; i < module->parameters().size(); ++i) {
    exact->parameters()[i].copy_(module->parameters()[i]);
  }
  const Tensor x = torch::randn({2, 5, kWidth}) * 3 + 1;
  const Tensor x32 = x.clone().requires_grad_(), x64 = x.to(at::kDouble).requires_grad_();
  expect_near(module->forward(x), exact->forward(x64));
  const at::AutoGradMode with_graph(true);
  const auto got = gradients(module, x32), want = gradients(exact, x64);
  for (size_t i = 0; i < want.size(); ++i) expect_near(got[i], want[i]);
}

TEST(NormTest, LayerNormAndItsGradientsAreThoseOfFloat64) {
  for (const bool bias : {true, false}) {
    torch::manual_seed(1);
    expect_float32_is_float64_rounded(LayerNorm(kWidth, bias), LayerNorm(kWidth, bias));
  }
}

TEST(NormTest, RMSNormAndItsGradientsAreThoseOfFloat64) {
  torch::manual_seed(2);
  expect_float32_is_float64_rounded(RMSNorm(kWidth), RMSNorm(kWidth));
}

TEST(NormTest, GradientsInFloat64AreThoseOfDifferences) {
  torch::manual_seed(3);
  LayerNorm layer(6);
  RMSNorm rms(6);
  layer->to(at::kDouble);
  rms->to(at::kDouble);
  const Tensor x = support::leaf({3, 6});
  EXPECT_LT(
      support::gradient_error([&] { return layer->forward(x); }, {x, layer->weight, layer->bias}),
      support::kGradientTolerance);
  EXPECT_LT(support::gradient_error([&] { return rms->forward(x); }, {x, rms->weight}),
            support::kGradientTolerance);
}

TEST(NormTest, BFloat16IsNormedInFloat32AndRoundedOnce) {
  torch::manual_seed(4);
  const Tensor x = torch::randn({4, kWidth}).to(at::kBFloat16), wide = x.to(at::kFloat);
  LayerNorm layer(kWidth);
  RMSNorm rms(kWidth);
  EXPECT_TRUE(at::equal(layer->forward(x), layer->forward(wide).to(at::kBFloat16)));
  EXPECT_TRUE(at::equal(rms->forward(x), rms->forward(wide).to(at::kBFloat16)));
}

// A product of the norm, and its gradients of x, the norm's parameters and the product's.
template <class Norm>
std::vector<Tensor> product_and_gradients(Norm& norm, const Tensor& w, bool as_operand) {
  torch::manual_seed(8);
  const Tensor x = (torch::randn({5, kWidth}) * 3 + 1).requires_grad_();
  const Tensor normed = as_operand ? norm->operand(x) : norm->forward(x);
  EXPECT_EQ(normed.scalar_type(), as_operand ? at::kBFloat16 : at::kFloat);
  const Tensor y = affine(normed, w);
  std::vector<Tensor> inputs = norm->parameters();
  inputs.push_back(x);
  inputs.push_back(w);
  std::vector<Tensor> all = torch::autograd::grad({y.square().sum()}, inputs);
  all.push_back(y);
  return all;
}

TEST(NormTest, AnOperandGivesAProductAndItsGradientsTheSameBits) {
  torch::manual_seed(7);
  LayerNorm layer(kWidth);
  RMSNorm rms(kWidth);
  const Tensor w = torch::randn({kWidth, 7}).requires_grad_();
  const base::AutocastGuard autocast({c10::kCPU, true, at::kBFloat16});
  const auto expect_same = [](const std::vector<Tensor>& a, const std::vector<Tensor>& b) {
    for (size_t i = 0; i < a.size(); ++i) {
      EXPECT_EQ(a[i].scalar_type(), b[i].scalar_type()) << i;
      EXPECT_TRUE(at::equal(a[i], b[i])) << i;
    }
  };
  expect_same(product_and_gradients(layer, w, true), product_and_gradients(layer, w, false));
  expect_same(product_and_gradients(rms, w, true), product_and_gradients(rms, w, false));
}

TEST(NormTest, AnOperandKeepsItsDtypeWithoutAutocastToBFloat16) {
  LayerNorm layer(kWidth);
  const Tensor x = torch::randn({5, kWidth});
  EXPECT_EQ(layer->operand(x).scalar_type(), at::kFloat);
  const base::AutocastGuard autocast({c10::kCPU, true, at::kHalf});
  EXPECT_EQ(layer->operand(x).scalar_type(), at::kFloat);
}

TEST(NormTest, StridesDoNotMatter) {
  torch::manual_seed(5);
  const Tensor x = torch::randn({kWidth, 3}).t();
  LayerNorm layer(kWidth);
  RMSNorm rms(kWidth);
  EXPECT_TRUE(at::equal(layer->forward(x), layer->forward(x.contiguous())));
  EXPECT_TRUE(at::equal(rms->forward(x), rms->forward(x.contiguous())));
}

TEST(NormTest, WhatIsFrozenGetsNoGradient) {
  torch::manual_seed(6);
  LayerNorm layer(kWidth);
  layer->weight.requires_grad_(false);
  const Tensor x = torch::randn({3, kWidth}).requires_grad_();
  layer->forward(x).square().sum().backward();
  EXPECT_FALSE(layer->weight.grad().defined());
  EXPECT_TRUE(layer->bias.grad().defined());
  EXPECT_TRUE(x.grad().defined());
}

TEST(NormTest, ASecondDerivativeIsRefused) {
  LayerNorm layer(kWidth);
  RMSNorm rms(kWidth);
  const Tensor x = torch::randn({3, kWidth}).requires_grad_();
  for (const Tensor& y : {layer->forward(x), rms->forward(x)}) {
    EXPECT_THROW_WITH(torch::autograd::grad({y.square().sum()}, {x}, {}, std::nullopt,
                                            /*create_graph=*/true),
                      "second derivative");
  }
}

}  // namespace
}  // namespace rev::nn
