#include "rev/nn/gated_mlp.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "nn/partial_gradients.h"
#include "rev/base/autocast_state.h"
#include "rev/base/memory_stats.h"
#include "support/gradcheck.h"
#include "support/throws.h"

namespace rev::nn {
namespace {

using at::Tensor;

// The layer's formula by LibTorch.
Tensor composed(const Tensor& x, const std::vector<Tensor>& w) {
  const Tensor gate = at::linear(x, w[0], w[1]), up = at::linear(x, w[2], w[3]);
  return at::linear(at::silu(gate) * up, w[4], w[5]);
}

GatedMlp random_mlp(at::ScalarType dtype) {
  torch::manual_seed(33);
  GatedMlp mlp(8, 12, true);
  mlp->to(dtype);
  const torch::NoGradGuard no_grad;
  for (Tensor& p : mlp->parameters()) p.normal_(0, 0.3);
  return mlp;
}

TEST(GatedMlpTest, ValueAndGradientsAreThoseOfTorchInItsDtypesAndUnderAutocast) {
  struct Case {
    at::ScalarType dtype;
    bool autocast;
  };
  for (const Case& c : {Case{at::kFloat, false}, Case{at::kBFloat16, false}, Case{at::kFloat, true},
                        Case{at::kDouble, false}}) {
    GatedMlp mlp = random_mlp(c.dtype);
    std::vector<Tensor> leaves = mlp->parameters(), exact;
    leaves.push_back(support::leaf({2, 5, 8}, c.dtype));
    for (const Tensor& t : leaves) exact.push_back(t.detach().to(at::kDouble).requires_grad_());
    const Tensor y = [&] {
      const base::AutocastGuard autocast({c10::kCPU, c.autocast, at::kBFloat16});
      return mlp->forward(leaves.back());
    }();
    EXPECT_EQ(y.scalar_type(), c.autocast ? at::kBFloat16 : c.dtype);
    const Tensor expected = composed(exact.back(), exact);
    const Tensor g = torch::randn(y.sizes(), y.options());
    y.backward(g);
    const auto wanted = torch::autograd::grad({expected}, exact, {g.to(at::kDouble)});
    // As for Mlp, but that a product of three stands where there was one value: at most eight
    // roundings to a dtype, and three sums of at most 12 products with roundings of random signs,
    // less than 8 + 3 sqrt(12) units.
    const double unit = y.scalar_type() == at::kDouble  ? 0x1p-53
                        : y.scalar_type() == at::kFloat ? 0x1p-24
                                                        : 0x1p-8;
    const auto error = [](const Tensor& got, const Tensor& want) {
      return ((got.to(at::kDouble) - want).norm() / want.norm()).item<double>();
    };
    EXPECT_LT(error(y, expected), 19 * unit);
    for (size_t i = 0; i < leaves.size(); ++i) {
      EXPECT_LT(error(leaves[i].grad(), wanted[i]), 19 * unit) << i << c.dtype << c.autocast;
      EXPECT_EQ(leaves[i].grad().scalar_type(), c.dtype);
    }
  }
}

TEST(GatedMlpTest, GradientsDoNotNeedTheValue) {
  GatedMlp mlp = random_mlp(at::kFloat);
  expect_gradients_do_not_need_the_value(mlp);
}

TEST(GatedMlpTest, FrozenPartsAndAbsentBiasesChangeNoOtherGradient) {
  torch::manual_seed(34);
  const auto leaf = [](at::IntArrayRef sizes) { return support::leaf(sizes, at::kFloat); };
  const std::vector<Tensor> all = {leaf({6, 8}), leaf({6, 8}), leaf({3, 8}),
                                   leaf({8}),    leaf({8}),    leaf({3})};
  const Tensor g = torch::randn({6, 3});
  const auto apply = [](const std::vector<Tensor>& t) {
    return swiglu_linear(t[0], t[1], t[2], t[3], t[4], t[5]);
  };
  expect_frozen_inputs_change_no_other_gradient(apply, all, g);
  // Adding a bias of 0 rounds nothing.
  const std::vector<Tensor> zeros = {
      all[0], all[1], all[2], torch::zeros({8}), torch::zeros({8}), torch::zeros({3})};
  const std::vector<Tensor> inputs = {all[0], all[1], all[2]};
  const auto with = torch::autograd::grad({apply(zeros)}, inputs, {g});
  for (unsigned absent = 1; absent < 8; ++absent) {
    std::vector<Tensor> given = zeros;
    for (size_t i = 0; i < 3; ++i) {
      if ((absent >> i & 1) != 0) given[i + 3] = Tensor();
    }
    const auto some = torch::autograd::grad({apply(given)}, inputs, {g});
    for (size_t i = 0; i < 3; ++i) EXPECT_TRUE(at::equal(some[i], with[i])) << absent << ' ' << i;
  }
}

TEST(GatedMlpTest, AGraphKeepsTheFirstProductsAlone) {
  base::count_memory();
  const Tensor gate = torch::randn({64, 4096}).requires_grad_(), up = torch::randn({64, 4096});
  const Tensor w = torch::randn({4, 4096}).requires_grad_();
  const int64_t before = base::memory_stats().live_bytes;
  const Tensor y = swiglu_linear(gate, up, w);
  EXPECT_LT(base::memory_stats().live_bytes - before, static_cast<int64_t>(gate.nbytes()) / 2);
  EXPECT_TRUE(y.requires_grad());
}

TEST(GatedMlpTest, RefusesASecondDerivativeAndShapesThatDoNotFit) {
  const Tensor h = support::leaf({2, 4}, at::kFloat), w = support::leaf({3, 4}, at::kFloat);
  const Tensor y = swiglu_linear(h, h, w).square().sum();
  EXPECT_THROW_WITH(torch::autograd::grad({y}, {h}, {}, true, /*create_graph=*/true),
                    "swiglu_linear: a second derivative is not supported");
  EXPECT_THROW_WITH(swiglu_linear(h, torch::ones({2, 3}), w), "gate is [2, 4] and up [2, 3]");
  EXPECT_THROW_WITH(swiglu_linear(h, h, torch::ones({4, 3})), "but weight [out,F] is [4, 3]");
  EXPECT_THROW_WITH(swiglu_linear(h, h, w, {}, {}, torch::ones({4})),
                    "c is [4] but weight [out,F]");
}

}  // namespace
}  // namespace rev::nn
