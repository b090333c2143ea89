#include "rev/optim/adamw.h"

#include <cmath>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "rev/optim/clip.h"
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

TEST(AdamWTest, TakesTheStepsOfTorchsFusedAdamWInFloat64) {
  torch::manual_seed(34);
  const Tensor ours = torch::randn({5, 7}, at::kDouble).requires_grad_();
  std::vector<Tensor> theirs{ours.detach().clone()}, m{at::zeros_like(ours)},
      v{at::zeros_like(ours)};
  const Tensor count = torch::zeros({});
  AdamW adamw({{{{"w", ours}}, 0.1}});
  for (int64_t step = 0; step < 5; ++step) {
    set_grad(ours, step);
    const Tensor grad = ours.grad().to(at::kDouble);
    ours.mutable_grad() = grad;
    if (step % 2 == 0) {
      adamw.step(1e-2);
    } else {  // with a factor of 0.25, of which a float knows every bit, and a rate of 2^-7
      ours.mutable_grad() = 4 * grad;
      adamw.step(StepTensors{torch::full({}, 0x1p-7f), torch::full({}, 0.25f), {}});
    }
    count.add_(1);
    std::vector<Tensor> grads{grad};
    at::_fused_adamw_(theirs, grads, m, v, {}, {count}, step % 2 == 0 ? 1e-2 : 0x1p-7, 0.9, 0.95,
                      0.1, 1e-8, false, false);
  }
  EXPECT_TRUE(at::equal(ours, theirs[0]));
}

TEST(AdamWTest, ReadsRateFactorAndFlagFromTensors) {
  torch::manual_seed(35);
  const Tensor a = weight({40, 30}), b = a.detach().clone().requires_grad_();
  AdamW first({{{{"w", a}}, 0.1}}), second({{{{"w", b}}, 0.1}});
  const Tensor lr = torch::full({}, 0.01f), skip = torch::zeros({}, at::kInt);
  for (int64_t step = 0; step < 4; ++step) {
    set_grad(a, step);
    b.mutable_grad() = a.grad().clone();
    const auto norm = grad_norm({b}, 1.0);
    EXPECT_GT(clip_grad_norm({a}, 1.0), 1);
    first.step(0.01);
    second.step({lr, norm.factor, skip});
    // The factor is rounded to float32 before it multiplies the gradient, or after: the moments
    // differ by two roundings, a move of 0.01 too, and w, at most 4, by one more.
    EXPECT_TRUE(at::allclose(a, b, 0, 4 * std::pow(2.0, -24)));
  }
  const Tensor before = b.detach().clone();
  skip.fill_(1);
  second.step({lr, {}, skip});
  EXPECT_TRUE(at::equal(b, before));
  EXPECT_EQ(second.state().at(2).second.item<float>(), 4);
}

TEST(AdamWTest, EightBitStatesAreKeptForLargeParametersAndGoOnFromASavedState) {
  torch::manual_seed(36);
  AdamWOptions options;
  options.state_bits = 8;
  const Tensor large = weight({70, 60}), small = weight({60});
  AdamW first(decay_matrices({{"w", large}, {"b", small}}, 0.1), options);
  for (int64_t step = 0; step < 3; ++step) {
    set_grad(large, step);
    set_grad(small, step);
    first.step(0.01);
  }
  std::string names;
  base::NamedTensors saved;
  for (const auto& [name, tensor] : first.state()) {
    names += c10::str(name, " ", tensor.scalar_type(), tensor.sizes(), "\n");
    saved.emplace_back(name, tensor.clone());
  }
  EXPECT_EQ(names,
            "w.exp_avg Byte[70, 60]\n"
            "w.exp_avg_sq Byte[70, 60]\n"
            "w.step Float[]\n"
            "w.exp_avg_scale Float[17]\n"
            "w.exp_avg_sq_scale Float[17]\n"
            "b.exp_avg Float[60]\n"
            "b.exp_avg_sq Float[60]\n"
            "b.step Float[]\n");

  const Tensor large2 = large.detach().clone().requires_grad_();
  const Tensor small2 = small.detach().clone().requires_grad_();
  AdamW second(decay_matrices({{"w", large2}, {"b", small2}}, 0.1), options);
  second.load_state(saved);
  AdamW wide(decay_matrices({{"w", large2}, {"b", small2}}, 0.1));
  EXPECT_THROW_WITH(wide.load_state(saved), "unexpected w.exp_avg_scale, w.exp_avg_sq_scale");
  for (const Tensor& w : {large, small, large2, small2}) set_grad(w, 3);
  first.step(0.01);
  second.step(0.01);
  EXPECT_TRUE(at::equal(large, large2));
  EXPECT_TRUE(at::equal(small, small2));
}

TEST(AdamWTest, MasterWeightsCarryBFloat16OverManySmallSteps) {
  torch::manual_seed(37);
  AdamWOptions options;
  options.master_weights = true;
  const Tensor wide = weight({50, 4});
  const Tensor narrow = wide.detach().to(at::kBFloat16).requires_grad_();
  wide.detach().copy_(narrow.detach());
  AdamW adamw({{{{"w", narrow}, {"v", wide}}, 0.0}}, options);
  for (int64_t step = 0; step < 20; ++step) {
    const Tensor grad = torch::randn({50, 4}).to(at::kBFloat16);
    narrow.mutable_grad() = grad;
    wide.mutable_grad() = grad.to(at::kFloat);
    adamw.step(1e-4);
  }
  EXPECT_TRUE(at::equal(narrow, wide.to(at::kBFloat16)));
  EXPECT_EQ(adamw.state().at(3).first, "w.master");
  EXPECT_TRUE(at::equal(adamw.state().at(3).second, wide));
}

TEST(AdamWTest, TakesGradientsInAnotherLayout) {
  torch::manual_seed(38);
  const Tensor a = weight({6, 5}), b = a.detach().clone().requires_grad_();
  const Tensor grad = torch::randn({6, 5});
  a.mutable_grad() = grad;
  b.mutable_grad() = grad.t().contiguous().t();
  AdamW adamw({{{{"a", a}, {"b", b}}, 0.1}});
  adamw.step(0.1);
  EXPECT_TRUE(at::equal(a, b));
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
  AdamWOptions options;
  options.state_bits = 16;
  EXPECT_THROW_WITH(AdamW({}, options), "state_bits are 16, expected 8 or 32");
  const Tensor w = weight({2});
  EXPECT_THROW_WITH(AdamW({{{{"w", w}, {"w", w}}, 0.0}}), "parameter w comes twice");
}

}  // namespace
}  // namespace rev::optim
