#include "rev/nn/mlp.h"

#include <cmath>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "nn/partial_gradients.h"
#include "rev/base/autocast_state.h"
#include "rev/base/memory_stats.h"
#include "rev/nn/norm.h"
#include "support/gradcheck.h"
#include "support/throws.h"

namespace rev::nn {
namespace {

using at::Tensor;

TEST(MlpTest, IsTheFormula) {
  torch::manual_seed(22);
  Mlp mlp(6);
  mlp->to(at::kDouble);
  const torch::NoGradGuard no_grad;
  const Tensor x = torch::randn({2, 3, 6}, at::kDouble);
  const Tensor h = x.matmul(mlp->c_fc->weight) + mlp->c_fc->bias;
  const Tensor gelu = 0.5 * h * (1 + torch::tanh(std::sqrt(2 / M_PI) * (h + 0.044715 * h.pow(3))));
  const Tensor y = gelu.matmul(mlp->c_proj->weight) + mlp->c_proj->bias;
  // Weights of 0.02, values well below 1, sums of 24 terms in float64.
  EXPECT_TRUE(at::allclose(mlp->forward(x), y, 0, 1e-15));
}

TEST(MlpTest, GradientsAreThoseOfDifferencesWithDropoutToo) {
  for (const double dropout : {0.0, 0.4}) {
    torch::manual_seed(23);
    Mlp mlp(4, dropout);
    mlp->to(at::kDouble);
    const Tensor x = support::leaf({2, 4});
    std::vector<Tensor> inputs = mlp->parameters();
    inputs.push_back(x);
    const auto f = [&] {
      torch::manual_seed(24);
      return mlp->forward(x);
    };
    EXPECT_LT(support::gradient_error(f, inputs), support::kGradientTolerance) << dropout;
  }
}

// The layer's formula by LibTorch, on leaves of its own.
struct Composed {
  Tensor x, w_fc, b_fc, w_proj, b_proj;

  std::vector<Tensor> leaves() const { return {x, w_fc, b_fc, w_proj, b_proj}; }

  Tensor operator()() const {
    return affine(at::gelu(affine(x, w_fc, b_fc), "tanh"), w_proj, b_proj);
  }
};

TEST(MlpTest, ValueAndGradientsAreThoseOfTorchInItsDtypesAndUnderAutocast) {
  struct Case {
    at::ScalarType dtype;
    bool autocast;
  };
  for (const Case& c :
       {Case{at::kFloat, false}, Case{at::kBFloat16, false}, Case{at::kFloat, true}}) {
    torch::manual_seed(28);
    Mlp mlp(8);
    mlp->to(c.dtype);
    for (Tensor& p : mlp->parameters()) p.detach().normal_(0, 0.3);
    const Tensor x = support::leaf({2, 5, 8}, c.dtype);
    const auto own = [](const Tensor& t) { return t.detach().to(at::kDouble).requires_grad_(); };
    const Composed exact{own(x), own(mlp->c_fc->weight), own(mlp->c_fc->bias),
                         own(mlp->c_proj->weight), own(mlp->c_proj->bias)};
    const Tensor y = [&] {
      const base::AutocastGuard autocast({c10::kCPU, c.autocast, at::kBFloat16});
      return mlp->forward(x);
    }();
    const bool narrow = c.autocast || c.dtype == at::kBFloat16;
    EXPECT_EQ(y.scalar_type(), narrow ? at::kBFloat16 : at::kFloat);
    const Tensor expected = exact();
    const Tensor g = torch::randn(y.sizes(), y.options());
    y.backward(g);
    const auto wanted = torch::autograd::grad({expected}, exact.leaves(), {g.to(at::kDouble)});
    // Between operands and result lie at most six roundings to a dtype, of one unit each, and two
    // sums of at most 32 products, whose roundings in float32 have random signs: by the norm of
    // all elements, which random products do not lessen, less than 6 + 2 sqrt(32) units.
    const double tolerance = 18 * (narrow ? 0x1p-8 : 0x1p-24);
    const auto error = [](const Tensor& got, const Tensor& want) {
      return ((got.to(at::kDouble) - want).norm() / want.norm()).item<double>();
    };
    EXPECT_LT(error(y, expected), tolerance);
    const std::vector<Tensor> leaves = {x, mlp->c_fc->weight, mlp->c_fc->bias, mlp->c_proj->weight,
                                        mlp->c_proj->bias};
    for (size_t i = 0; i < leaves.size(); ++i) {
      EXPECT_LT(error(leaves[i].grad(), wanted[i]), tolerance) << i << c.dtype << c.autocast;
      EXPECT_EQ(leaves[i].grad().scalar_type(), c.dtype);
    }
  }
}

TEST(MlpTest, GradientsDoNotNeedTheValue) {
  torch::manual_seed(29);
  Mlp mlp(8);
  expect_gradients_do_not_need_the_value(mlp);
}

TEST(MlpTest, FrozenPartsAndAbsentBiasesChangeNoOtherGradient) {
  torch::manual_seed(30);
  const Tensor h = support::leaf({6, 8}, at::kFloat), w = support::leaf({8, 3}, at::kFloat);
  const Tensor bias = support::leaf({8}, at::kFloat), c = support::leaf({3}, at::kFloat);
  const Tensor g = torch::randn({6, 3});
  const auto apply = [](const std::vector<Tensor>& t) {
    return gelu_affine(t[0], t[1], t[2], t[3]);
  };
  expect_frozen_inputs_change_no_other_gradient(apply, {h, bias, w, c}, g);
  // Adding a bias of 0 rounds nothing.
  const Tensor none = torch::zeros({8}), no_c = torch::zeros({3});
  for (const bool has_bias : {true, false}) {
    for (const bool has_c : {true, false}) {
      const Tensor y = gelu_affine(h, has_bias ? none : Tensor(), w, has_c ? no_c : Tensor());
      const auto some = torch::autograd::grad({y}, {h, w}, {g});
      const auto with = torch::autograd::grad({gelu_affine(h, none, w, no_c)}, {h, w}, {g});
      EXPECT_TRUE(at::equal(some[0], with[0]) && at::equal(some[1], with[1])) << has_bias << has_c;
    }
  }
}

TEST(MlpTest, AGraphKeepsTheFirstProductAlone) {
  base::count_memory();
  const Tensor h = torch::randn({64, 4096}), bias = torch::randn({4096}).requires_grad_();
  const Tensor w = torch::randn({4096, 4}).requires_grad_();
  const int64_t before = base::memory_stats().live_bytes;
  const Tensor y = gelu_affine(h, bias, w);
  EXPECT_LT(base::memory_stats().live_bytes - before, static_cast<int64_t>(h.nbytes()) / 2);
  EXPECT_TRUE(y.requires_grad());
}

TEST(MlpTest, RefusesASecondDerivativeAndShapesThatDoNotFit) {
  const Tensor h = support::leaf({2, 4}, at::kFloat), w = support::leaf({4, 3}, at::kFloat);
  const Tensor y = gelu_affine(h, {}, w).square().sum();
  EXPECT_THROW_WITH(torch::autograd::grad({y}, {h}, {}, true, /*create_graph=*/true),
                    "gelu_affine: a second derivative is not supported");
  EXPECT_THROW_WITH(gelu_affine(h, {}, torch::ones({3, 4})), "h is [2, 4] but weight [F,out] is");
  EXPECT_THROW_WITH(gelu_affine(h, torch::ones({3}), w), "a bias is Float [3]");
  EXPECT_THROW_WITH(gelu_affine(h, {}, w, torch::ones({4})), "c is [4] but weight [F,out] is");
}

TEST(LayerNormTest, IsTheFormulaWithAndWithoutBias) {
  torch::manual_seed(25);
  for (const bool bias : {true, false}) {
    LayerNorm norm(8, bias);
    norm->to(at::kDouble);
    const torch::NoGradGuard no_grad;
    for (Tensor& p : norm->parameters()) p.normal_();
    const Tensor x = torch::randn({3, 8}, at::kDouble);
    const Tensor centred = x - x.mean(-1, true);
    Tensor y = centred / torch::sqrt(centred.pow(2).mean(-1, true) + 1e-5) * norm->weight;
    if (bias) y = y + norm->bias;
    // Values of size 3, sums of 8 terms in float64: 1e-15 * 10.
    EXPECT_TRUE(at::allclose(norm->forward(x), y, 0, 1e-14));
    EXPECT_EQ(norm->parameters().size(), bias ? 2u : 1u);
  }
}

}  // namespace
}  // namespace rev::nn
