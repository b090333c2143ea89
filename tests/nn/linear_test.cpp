#include "rev/nn/linear.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "rev/base/autocast_state.h"
#include "support/gradcheck.h"
#include "support/throws.h"

namespace rev::nn {
namespace {

using at::Tensor;
using support::leaf;

const base::AutocastState kOff{c10::kCPU, false, at::kBFloat16};
const base::AutocastState kBf16{c10::kCPU, true, at::kBFloat16};

TEST(LinearTest, GradientsAreThoseOfDifferences) {
  torch::manual_seed(1);
  const Tensor x = leaf({2, 3, 4}), w = leaf({4, 5}), b = leaf({5});
  EXPECT_LT(support::gradient_error([&] { return affine(x, w, b); }, {x, w, b}),
            support::kGradientTolerance);
  EXPECT_LT(support::gradient_error([&] { return affine(x, w); }, {x, w}),
            support::kGradientTolerance);
}

TEST(LinearTest, TransposedIsTheSameMapWithItsGradientInTheWeightsLayout) {
  torch::manual_seed(6);
  const Tensor x = leaf({2, 3, 4}), w = leaf({5, 4}), b = leaf({5});
  EXPECT_LT(support::gradient_error([&] { return project(x, w, b); }, {x, w, b}),
            support::kGradientTolerance);
  EXPECT_LT(support::gradient_error([&] { return project(x, w); }, {x, w}),
            support::kGradientTolerance);
  // Sums of 5 terms of size 1 in float64.
  EXPECT_TRUE(at::allclose(project(x, w, b), affine(x, w.t(), b), 0, 1e-14));
  EXPECT_TRUE(torch::autograd::grad({project(x, w, b).sum()}, {w})[0].is_contiguous());
}

TEST(LinearTest, TransposedWithoutItsValueHasTheSameGradients) {
  torch::manual_seed(7);
  Projection map(32, 16);
  const Tensor x = leaf({3, 7, 32}, at::kFloat), g = torch::randn({3, 7, 16});
  const std::vector<Tensor> inputs = {x, map->weight, map->bias};
  for (const auto& autocast : {kOff, kBf16}) {
    const base::AutocastGuard guard(autocast);
    const Tensor y = map->forward(x), z = map->forward(x, /*need_value=*/false);
    EXPECT_EQ(y.scalar_type(), z.scalar_type());
    EXPECT_EQ(y.sizes(), z.sizes());
    const auto dy = torch::autograd::grad({y}, inputs, {g.to(y.scalar_type())});
    const auto dz = torch::autograd::grad({z}, inputs, {g.to(z.scalar_type())});
    for (size_t i = 0; i < dy.size(); ++i) EXPECT_TRUE(at::equal(dy[i], dz[i])) << i;
  }
}

TEST(LinearTest, HasTheBitsOfAddmm) {
  torch::manual_seed(2);
  const Tensor x = leaf({2, 8, 32}, at::kFloat), w = leaf({32, 48}, at::kFloat),
               b = leaf({48}, at::kFloat), g = torch::randn({2, 8, 48});
  for (const auto& autocast : {kOff, kBf16}) {
    const base::AutocastGuard guard(autocast);
    const Tensor y = affine(x, w, b);
    const Tensor z = at::addmm(b, x.view({16, 32}), w).view({2, 8, 48});
    EXPECT_EQ(y.scalar_type(), z.scalar_type());
    EXPECT_TRUE(at::equal(y, z));
    const auto dy = torch::autograd::grad({y}, {x, w, b}, {g.to(y.scalar_type())});
    const auto dz = torch::autograd::grad({z}, {x, w, b}, {g.to(z.scalar_type())});
    for (size_t i = 0; i < dy.size(); ++i) EXPECT_TRUE(at::equal(dy[i], dz[i])) << i;
  }
}

TEST(LinearTest, WithoutItsValueGradientsAreTheSameBits) {
  torch::manual_seed(3);
  const Tensor x = leaf({3, 7, 32}, at::kFloat), w = leaf({32, 16}, at::kFloat),
               b = leaf({16}, at::kFloat), g = torch::randn({3, 7, 16});
  for (const auto& autocast : {kOff, kBf16}) {
    const base::AutocastGuard guard(autocast);
    const Tensor y = affine(x, w, b), z = affine(x, w, b, /*need_value=*/false);
    EXPECT_EQ(y.scalar_type(), z.scalar_type());
    EXPECT_EQ(y.sizes(), z.sizes());
    const auto dy = torch::autograd::grad({y}, {x, w, b}, {g.to(y.scalar_type())});
    const auto dz = torch::autograd::grad({z}, {x, w, b}, {g.to(z.scalar_type())});
    for (size_t i = 0; i < dy.size(); ++i) EXPECT_TRUE(at::equal(dy[i], dz[i])) << i;
  }
}

TEST(LinearTest, FrozenWeightGetsNoGradient) {
  torch::manual_seed(4);
  const Tensor x = leaf({3, 4}), w = torch::randn({4, 5}, at::kDouble);
  affine(x, w).sum().backward();
  EXPECT_TRUE(x.grad().defined());
  EXPECT_FALSE(w.grad().defined());
}

// f(x) = |x W + b|^2 / 2 has the Hessian W W^T in x.
TEST(LinearTest, HasASecondDerivative) {
  torch::manual_seed(5);
  const Tensor x = leaf({3, 4}, at::kFloat), w = leaf({4, 5}, at::kFloat), v = torch::randn({3, 4});
  const Tensor f = affine(x, w, leaf({5}, at::kFloat)).square().sum() / 2;
  const Tensor dx = torch::autograd::grad({f}, {x}, {}, true, /*create_graph=*/true)[0];
  const auto second = torch::autograd::grad({(dx * v).sum()}, {x, w});
  const Tensor hessian = w.detach().to(at::kDouble).mm(w.detach().t().to(at::kDouble));
  const Tensor wanted = v.to(at::kDouble).mm(hessian);
  // Sums of 4 and of 5 products, each term within 9 roundings.
  const Tensor scale =
      v.abs()
          .to(at::kDouble)
          .mm(w.detach().abs().to(at::kDouble).mm(w.detach().abs().t().to(at::kDouble)));
  EXPECT_TRUE(((second[0] - wanted).abs() <= 9 * 0x1p-24 * scale).all().item<bool>());
  EXPECT_TRUE(second[1].abs().sum().item<float>() > 0);
}

TEST(LinearTest, NamesShapesThatDoNotFit) {
  EXPECT_THROW_WITH(affine(torch::ones({2, 3}), torch::ones({4, 5})), "weight [in,out] is [4, 5]");
  EXPECT_THROW_WITH(affine(torch::ones({2, 4}), torch::ones({4, 5}), torch::ones({4})),
                    "bias is [4]");
  EXPECT_THROW_WITH(project(torch::ones({2, 5}), torch::ones({4, 3})), "weight [out,in] is [4, 3]");
  EXPECT_THROW_WITH(project(torch::ones({2, 3}), torch::ones({4, 3}), torch::ones({3})),
                    "project: bias is [3]");
}

}  // namespace
}  // namespace rev::nn
