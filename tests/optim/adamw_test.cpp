#include "rev/optim/adamw.h"

#include <cmath>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "support/throws.h"

namespace rev::optim {
namespace {

using at::Tensor;

Tensor weight(at::IntArrayRef sizes) { return torch::randn(sizes).requires_grad_(); }

// A gradient that changes with the step and depends on the weights.
void set_grad(const Tensor& w, int64_t step) {
  const Tensor pattern = at::arange(w.numel(), at::kFloat).add(step).cos().view(w.sizes());
  w.mutable_grad() = pattern + 0.1 * w.detach();
}

TEST(AdamWTest, TakesTheStepsOfTorchAdamW) {
  torch::manual_seed(31);
  const Tensor ours = weight({33, 17});
  const Tensor theirs = ours.detach().clone().requires_grad_();
  AdamW adamw({{{{"w", ours}}, 0.1}}, {0.9, 0.95, 1e-8});
  torch::optim::AdamW torch_adamw(
      {theirs}, torch::optim::AdamWOptions(1e-2).betas({0.9, 0.95}).eps(1e-8).weight_decay(0.1));
  for (int64_t step = 0; step < 10; ++step) {
    set_grad(ours, step);
    set_grad(theirs, step);
    adamw.step(1e-2);
    torch_adamw.step();
  }
  // Each of 10 steps rounds w (at most 4) a few times to 2^-24 of itself, and moves by 1e-2 with a
  // relative rounding of a few 2^-24: 10 * 4 * 4 * 2^-24.
  EXPECT_LT((ours - theirs).abs().max().item<double>(), 160 * std::pow(2.0, -24));
}

TEST(AdamWTest, FirstStepMovesByTheRateAgainstTheSignAndDecays) {
  const Tensor w = torch::tensor({{2.0f, -3.0f}}).requires_grad_();
  AdamW adamw({{{{"w", w}}, 0.5}});
  w.mutable_grad() = torch::tensor({{10.0f, -0.25f}});
  adamw.step(0.1);
  // m / (1 - beta1) = g and v / (1 - beta2) = g^2: the step is lr sign(g), after w (1 - lr decay).
  const Tensor expected = torch::tensor({{2.0 * 0.95 - 0.1, -3.0 * 0.95 + 0.1}}, at::kDouble);
  // w, at most 4, is rounded twice to 4 * 2^-25; its factor and the step add less than that again.
  EXPECT_TRUE(at::allclose(w.detach().to(at::kDouble), expected, 0, 8 * std::pow(2.0, -24)));
}

TEST(AdamWTest, OnlyMatricesDecay) {
  const base::NamedTensors named = {{"w", weight({3, 4})},
                                    {"b", weight({4})},
                                    {"e", weight({2, 3, 4})},
                                    {"frozen", torch::ones({2, 2})}};
  const auto groups = decay_matrices(named, 0.3);
  ASSERT_EQ(groups.size(), 2u);
  EXPECT_EQ(groups[0].weight_decay, 0.3);
  EXPECT_EQ(groups[1].weight_decay, 0);
  ASSERT_EQ(groups[0].parameters.size(), 2u);
  EXPECT_EQ(groups[0].parameters[0].first, "w");
  EXPECT_EQ(groups[0].parameters[1].first, "e");
  ASSERT_EQ(groups[1].parameters.size(), 1u);
  EXPECT_EQ(groups[1].parameters[0].first, "b");
}

TEST(AdamWTest, AParameterWithoutAGradientStays) {
  const Tensor a = weight({2, 2}), b = weight({2, 2});
  const Tensor before = b.detach().clone();
  AdamW adamw({{{{"a", a}, {"b", b}}, 0.1}});
  set_grad(a, 0);
  adamw.step(0.1);
  EXPECT_TRUE(at::equal(b, before));
  EXPECT_EQ(adamw.state().at(2).second.item<float>(), 1);  // a.step
  EXPECT_EQ(adamw.state().at(5).second.item<float>(), 0);  // b.step
}

TEST(AdamWTest, GoesOnFromASavedStateWithTheSameBits) {
  torch::manual_seed(32);
  const Tensor a = weight({40, 30}), v = weight({30});
  const auto groups = [](const Tensor& m, const Tensor& b) {
    return decay_matrices({{"a", m}, {"v", b}}, 0.1);
  };
  AdamW first(groups(a, v));
  for (int64_t step = 0; step < 3; ++step) {
    set_grad(a, step);
    set_grad(v, step);
    first.step(0.01);
  }
  const Tensor a2 = a.detach().clone().requires_grad_(), v2 = v.detach().clone().requires_grad_();
  base::NamedTensors saved;
  for (const auto& [name, tensor] : first.state()) saved.emplace_back(name, tensor.clone());
  AdamW second(groups(a2, v2));
  second.load_state({saved.rbegin(), saved.rend()});
  for (int64_t step = 3; step < 6; ++step) {
    for (const Tensor& w : {a, v, a2, v2}) set_grad(w, step);
    first.step(0.01);
    second.step(0.01);
  }
  EXPECT_TRUE(at::equal(a, a2));
  EXPECT_TRUE(at::equal(v, v2));
}

TEST(AdamWTest, NamesWhatAStateLacks) {
  const Tensor w = weight({2});
  AdamW adamw({{{{"w", w}}, 0.0}});
  EXPECT_THROW_WITH(
      adamw.load_state({{"w.exp_avg", torch::zeros({3})}, {"u.step", torch::zeros({})}}),
      "AdamW: state: missing w.exp_avg_sq, w.step; unexpected u.step; of the wrong shape "
      "w.exp_avg ([3] for [2])");
}

TEST(AdamWTest, RefusesSettingsOutOfRange) {
  EXPECT_THROW_WITH(AdamW({}, {1.0, 0.9, 1e-8}), "beta is 1");
  EXPECT_THROW_WITH(AdamW({{{}, -1.0}}), "weight decay is -1");
  const Tensor w = weight({2});
  EXPECT_THROW_WITH(AdamW({{{{"w", w}, {"w", w}}, 0.0}}), "parameter w comes twice");
}

}  // namespace
}  // namespace rev::optim
