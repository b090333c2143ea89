#include "rev/nn/mlp.h"

#include <cmath>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "rev/nn/norm.h"
#include "support/gradcheck.h"

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
