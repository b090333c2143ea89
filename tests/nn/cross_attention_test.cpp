#include "rev/nn/cross_attention.h"

#include <cmath>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "rev/base/autocast_state.h"
#include "support/gradcheck.h"

namespace rev::nn {
namespace {

using at::Tensor;

struct Parts {
  Linear p_up, p_down;
  LayerNorm norm;
  Attention attention;

  // A layer as it starts in a model of L layers.
  Parts(int64_t channels, int64_t heads, int64_t layers, double dropout = 0)
      : p_up(channels / 2, channels, false),
        p_down(channels, channels / 2, false,
               contracting_std(channels, heads, layers, 0.02, 0.02 * std::sqrt(2.0))),
        norm(channels),
        attention(AttentionOptions{channels, heads, dropout}) {
    const torch::NoGradGuard no_grad;
    attention->c_proj->weight.div_(std::sqrt(2.0 * static_cast<double>(layers)));
  }

  // As a trained layer: everything of size 1.
  void grow() {
    const torch::NoGradGuard no_grad;
    for (auto* linear : {&p_up, &p_down, &attention->c_attn, &attention->c_proj}) {
      Tensor& w = (*linear)->weight;
      w.normal_(0, 1 / std::sqrt(static_cast<double>(w.size(0))));
    }
  }

  void to(at::ScalarType dtype) {
    p_up->to(dtype);
    p_down->to(dtype);
    norm->to(dtype);
    attention->to(dtype);
  }

  CrossAttention cross() { return {p_up, norm, attention, p_down}; }
};

TEST(CrossAttentionTest, GradientsAreThoseOfDifferences) {
  for (const double dropout : {0.0, 0.2}) {
    torch::manual_seed(10);
    Parts parts(8, 2, 1, dropout);
    parts.to(at::kDouble);
    parts.grow();
    const CrossAttention cross = parts.cross();
    const Tensor x1 = support::leaf({2, 3, 4}), x2 = support::leaf({2, 3, 4});
    std::vector<Tensor> inputs = {x1, x2, parts.p_up->weight, parts.p_down->weight};
    for (const Tensor& p : parts.attention->parameters()) inputs.push_back(p);
    const auto f = [&] {
      torch::manual_seed(11);
      return cross.forward(x1, x2);
    };
    EXPECT_LT(support::gradient_error(f, inputs), support::kGradientTolerance) << dropout;
  }
}

TEST(CrossAttentionTest, IsCausal) {
  torch::manual_seed(12);
  Parts parts(32, 4, 1);
  parts.grow();
  const CrossAttention cross = parts.cross();
  const torch::NoGradGuard no_grad;
  const Tensor x1 = torch::randn({1, 6, 16}), x2 = torch::randn({1, 6, 16});
  Tensor other = x2.clone();
  other.select(1, 4).normal_();
  const Tensor changed = (cross.forward(x1, x2) != cross.forward(x1, other)).any(-1).squeeze(0);
  EXPECT_FALSE(changed.narrow(0, 0, 4).any().item<bool>());
  EXPECT_TRUE(changed.narrow(0, 4, 2).all().item<bool>());
}

TEST(CrossAttentionTest, TokenMapGivesForwardsRowsUnderTheSameGeneratorState) {
  for (const double dropout : {0.0, 0.2}) {
    torch::manual_seed(13);
    Parts parts(32, 4, 1, dropout);
    parts.to(at::kDouble);
    parts.grow();
    const CrossAttention cross = parts.cross();
    const torch::NoGradGuard no_grad;
    const Tensor x1 = torch::randn({3, 7, 16}, at::kDouble);
    const Tensor x2 = torch::randn({3, 7, 16}, at::kDouble);
    torch::manual_seed(14);
    const Tensor y = cross.forward(x1, x2).view({21, 16});
    torch::manual_seed(14);
    const auto map = cross.token_map(x2);
    for (const Tensor& index :
         {torch::arange(21), torch::tensor({20, 3, 8, 4}), torch::tensor({9}), torch::arange(0)}) {
      const Tensor rows = map(x1.view({21, 16}).index_select(0, index), index);
      // Products of size 1 over at most 32 terms, four in a row, in another order: 1e-15 * 1000.
      EXPECT_TRUE(at::allclose(rows, y.index_select(0, index), 0, 1e-12)) << dropout;
    }
  }
}

TEST(CrossAttentionTest, TokenMapIsCloseUnderAutocast) {
  torch::manual_seed(15);
  Parts parts(64, 4, 1);
  parts.grow();
  const CrossAttention cross = parts.cross();
  const torch::NoGradGuard no_grad;
  const base::AutocastGuard autocast({c10::kCPU, true, at::kBFloat16});
  const Tensor x1 = torch::randn({2, 16, 32}), x2 = torch::randn({2, 16, 32});
  const Tensor y = cross.forward(x1, x2).view({32, 32});
  const Tensor index = torch::tensor({1, 5, 17, 31});
  const Tensor rows = cross.token_map(x2)(x1.view({32, 32}).index_select(0, index), index);
  EXPECT_EQ(rows.scalar_type(), y.scalar_type());
  // Values of size 1, rounded to 2^-9 of themselves at about five places: 8 of these roundings.
  EXPECT_TRUE(at::allclose(rows.to(at::kFloat), y.index_select(0, index).to(at::kFloat), 0,
                           8 * std::pow(2.0, -9)));
}

// The largest singular value of the Jacobian of one token's map, by power iteration on each token.
double contraction(const CrossAttention& cross, const Tensor& x1, const Tensor& x2) {
  Tensor v = torch::randn_like(x1), gain;
  const double step = 1e-7;
  for (int i = 0; i < 8; ++i) {
    v = v / v.norm(2, -1, true).clamp_min(1e-300);  // the first token sees only itself: no slope
    const Tensor moved = (cross.forward(x1 + step * v, x2) - cross.forward(x1 - step * v, x2));
    const Tensor u = (moved / (2 * step)).detach();
    gain = u.norm(2, -1);
    const Tensor x = x1.clone().requires_grad_();
    v = torch::autograd::grad({cross.forward(x, x2)}, {x}, {u})[0];
  }
  return gain.max().item<double>();
}

TEST(CrossAttentionTest, StartsAsAContraction) {
  struct Size {
    int64_t channels, heads, layers, tokens;
  };
  for (const Size& size : {Size{128, 4, 4, 64}, Size{768, 12, 12, 16}}) {
    torch::manual_seed(16);
    Parts parts(size.channels, size.heads, size.layers);
    parts.to(at::kDouble);
    const double rms = 0.02 * std::sqrt(2.0);
    const Tensor x1 = torch::randn({1, size.tokens, size.channels / 2}, at::kDouble) * rms;
    const Tensor x2 = torch::randn({1, size.tokens, size.channels / 2}, at::kDouble) * rms;
    const double measured = contraction(parts.cross(), x1, x2);
    RecordProperty("contraction_" + std::to_string(size.channels), std::to_string(measured));
    EXPECT_LT(measured, 0.25) << size.channels;  // what contracting_std asks for
  }
}

}  // namespace
}  // namespace rev::nn
