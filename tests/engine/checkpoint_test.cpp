#include "rev/engine/checkpoint.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "engine/stacks.h"
#include "rev/base/memory_stats.h"
#include "support/gradcheck.h"
#include "support/throws.h"

namespace rev::engine {
namespace {

using at::Tensor;

TEST(CheckpointTest, GivesTheBitsOfAnOrdinaryEvaluationWithDropoutAndAutocast) {
  Block block(kChannels, 0.2, at::kFloat);
  const auto gradients = [&](bool checkpointed) {
    torch::manual_seed(3);
    const Tensor x = torch::randn({4, kChannels}).requires_grad_();
    for (Tensor p : block->parameters()) p.mutable_grad() = Tensor();
    Tensor y;
    {
      const Autocast cast;
      y = checkpointed ? checkpoint([&](at::TensorList in) { return block(in[0]); }, {x},
                                    block->parameters())
                       : block(x);
    }
    y.square().sum().backward();
    Step step{y.detach(), x.grad(), {}};
    for (const Tensor& p : block->parameters()) step.grads.push_back(p.grad());
    return step;
  };
  expect_same_bits(gradients(true), gradients(false));
}

TEST(CheckpointTest, TakesSeveralInputsAndOnlyParametersThatNeedGradients) {
  const Tensor a = torch::randn({3}, at::kDouble).requires_grad_(),
               b = torch::randn({3}, at::kDouble);
  const Tensor w = torch::randn({3}, at::kDouble).requires_grad_();
  const Tensor y = checkpoint([w](at::TensorList in) { return in[0] * in[1] * w; }, {a, b}, {w});
  const auto found = torch::autograd::grad({y.sum()}, {a, w});
  EXPECT_TRUE(at::equal(found[0], b * w));
  EXPECT_TRUE(at::equal(found[1], a * b));
  EXPECT_FALSE(checkpoint([](at::TensorList in) { return in[0] * 2; }, {b}, {}).requires_grad());
}

TEST(CheckpointTest, GradientsPassTheGradcheck) {
  const Tensor a = support::leaf({2, 3}), b = support::leaf({3}), w = support::leaf({3, 3});
  const auto fn = [w](at::TensorList in) { return torch::tanh(in[0].matmul(w) + in[1]) * in[0]; };
  EXPECT_LT(support::gradient_error(
                [&] {
                  return checkpoint(fn, {a, b}, {w});
                },
                {a, b, w}),
            support::kGradientTolerance);
}

TEST(CheckpointTest, ATensorThatIsReadAndNotListedIsRefused) {
  const Tensor w = torch::ones({3}).requires_grad_();
  const auto fn = [w](at::TensorList in) { return in[0] * w; };
  const std::string expected =
      "checkpoint: fn reads a tensor of shape [3] that requires a gradient and is not among its "
      "parameters";
  EXPECT_THROW_WITH(checkpoint(fn, {torch::ones({3}).requires_grad_()}, {}).sum().backward(),
                    expected);
  EXPECT_THROW_WITH(checkpoint(fn, {torch::ones({3})}, {}), expected);
  const torch::NoGradGuard no_grad;
  EXPECT_TRUE(at::equal(checkpoint(fn, {torch::ones({3})}, {}), w));
}

TEST(CheckpointTest, UndefinedParametersArePassedOver) {
  torch::nn::Linear linear(torch::nn::LinearOptions(3, 3).bias(false));
  const Tensor y = checkpoint([&](at::TensorList in) { return linear(in[0]); },
                              {torch::ones({2, 3})}, {linear->bias, linear->weight});
  y.sum().backward();
  EXPECT_TRUE(at::equal(linear->weight.grad(), torch::full({3, 3}, 2.0)));
}

TEST(CheckpointTest, BuffersMoveOnce) {
  torch::nn::BatchNorm1d norm(torch::nn::BatchNorm1dOptions(3)), same(norm->options);
  const Tensor x = torch::randn({5, 3}).requires_grad_();
  checkpoint([&](at::TensorList in) { return norm(in[0]); }, {x}, norm->parameters(),
             norm->buffers())
      .sum()
      .backward();
  same(x);
  EXPECT_EQ(norm->num_batches_tracked.item<int64_t>(), 1);
  EXPECT_TRUE(at::equal(norm->running_mean, same->running_mean));
  EXPECT_TRUE(at::equal(norm->running_var, same->running_var));
}

TEST(CheckpointTest, KeepsNoActivations) {
  base::count_memory();
  const Tensor x = torch::randn({64, 1024}).requires_grad_();
  const auto deep = [](at::TensorList in) {
    Tensor y = in[0];
    for (int i = 0; i < 20; ++i) y = torch::tanh(y);
    return y;
  };
  const int64_t before = base::memory_stats().live_bytes;
  const Tensor y = checkpoint(deep, {x}, {});
  EXPECT_LT(base::memory_stats().live_bytes - before, 2 * static_cast<int64_t>(x.nbytes()));
  y.sum().backward();
  const Tensor expected = torch::autograd::grad({deep({x}).sum()}, {x})[0];
  EXPECT_TRUE(at::equal(x.grad(), expected));
}

TEST(CheckpointTest, HooksFireOnceAndSecondDerivativesAreRefused) {
  const Tensor w = torch::randn({3}, at::kDouble).requires_grad_();
  int fired = 0;
  w.register_hook([&fired](const Tensor& g) {
    ++fired;
    return g;
  });
  const auto fn = [w](at::TensorList in) { return in[0] * w; };
  const Tensor x = torch::randn({3}, at::kDouble).requires_grad_();
  checkpoint(fn, {x}, {w}).sum().backward();
  EXPECT_EQ(fired, 1);
  const Tensor y = checkpoint(fn, {x}, {w}).square().sum();
  EXPECT_THROW_WITH(torch::autograd::grad({y}, {x}, {}, true, true), "no second derivative");
  EXPECT_THROW_WITH(checkpoint(nullptr, {x}, {}), "a function is needed");
}

TEST(CheckpointTest, AWeightChangedBeforeBackwardIsAnError) {
  const Tensor w = torch::randn({3}).requires_grad_();
  const Tensor y =
      checkpoint([w](at::TensorList in) { return in[0] * w; }, {torch::ones({3})}, {w});
  {
    const torch::NoGradGuard no_grad;
    w.add_(1);
  }
  EXPECT_THROW_WITH(y.sum().backward(), "modified by an inplace operation");
}

}  // namespace
}  // namespace rev::engine
