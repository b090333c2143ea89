#include "rev/train/repeat_step.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "rev/schemes/midpoint.h"
#include "rev/schemes/revffn.h"

namespace rev::train {
namespace {

using at::Tensor;

// RevFFN with dropout, whose field f of layer 1 has slope `slope` in X1: beyond 1 it cannot be
// iterated.
engine::Stack revffn(const Tensor& w, double slope) {
  std::vector<std::vector<engine::FieldPtr>> layers;
  for (int l = 0; l < 3; ++l) {
    const double of_layer = l == 1 ? slope : 0.1;
    layers.push_back({engine::cross_field(
                          [=](const Tensor& a, const Tensor& b) {
                            return torch::sin(of_layer * a) + torch::dropout(b * w, 0.3, true);
                          },
                          {w}),
                      engine::field([=](const Tensor& x) { return torch::sin(x * w); }, {w})});
  }
  return engine::Stack(std::make_shared<schemes::RevFFN>(), layers);
}

Tensor input() {
  torch::manual_seed(5);
  return torch::randn({2, 6, 8});
}

TEST(RepeatStepTest, GivesUpTheLayerAndRepeatsTheStepWithTheSameRandomNumbers) {
  const auto gradient = [](bool checkpointed_before, int* calls, std::vector<int64_t>* layers) {
    const Tensor w = torch::full({4}, 0.3).requires_grad_();
    engine::Stack stack = revffn(w, 12.0);
    if (checkpointed_before) stack.set_memory(1, engine::Memory::Checkpoint);
    const Tensor x = input();
    torch::manual_seed(7);
    const auto passes = [&] {
      ++*calls;
      w.mutable_grad() = Tensor();
      const Tensor loss = stack.forward(x).square().sum();
      loss.backward();
      return loss.item<double>();
    };
    const double loss =
        repeat_step(stack, c10::kCPU, passes, [&](const base::NotInvertible& error) {
          EXPECT_EQ(stack.memory(error.layer()), engine::Memory::Invert);
          layers->push_back(error.layer());
        });
    EXPECT_EQ(stack.memory(0), engine::Memory::Invert);
    EXPECT_EQ(stack.memory(1), engine::Memory::Checkpoint);
    EXPECT_EQ(stack.take_report().rows_differing, 0);
    return std::tuple(loss, w.grad(), torch::rand({3}));
  };
  int calls = 0, calls_before = 0;
  std::vector<int64_t> layers, layers_before;
  const auto [loss, grad, drawn] = gradient(false, &calls, &layers);
  const auto [loss_before, grad_before, drawn_before] =
      gradient(true, &calls_before, &layers_before);
  EXPECT_EQ(calls, 2);
  EXPECT_EQ(layers, (std::vector<int64_t>{1}));
  EXPECT_EQ(calls_before, 1);
  EXPECT_TRUE(layers_before.empty());
  EXPECT_EQ(loss, loss_before);
  EXPECT_TRUE(at::equal(grad, grad_before));
  EXPECT_TRUE(at::equal(drawn, drawn_before));  // the generators are where one step leaves them
}

TEST(RepeatStepTest, AFieldThatGivesOtherBitsIsPassedOn) {
  const Tensor count = torch::zeros({}), w = torch::ones({1}).requires_grad_();
  const std::vector<engine::FieldPtr> fields = {
      engine::field([=](const Tensor& x) { return x * w + count.add_(1); }, {w})};
  engine::Stack stack(std::make_shared<schemes::Midpoint>(), fields);
  const auto passes = [&] {
    const Tensor loss = stack.forward(input()).sum();
    loss.backward();
    return loss.item<double>();
  };
  EXPECT_THROW(repeat_step(stack, c10::kCPU, passes), base::NotInvertible);
  EXPECT_EQ(stack.memory(0), engine::Memory::Invert);
}

}  // namespace
}  // namespace rev::train
