#include "rev/train/device_step.h"

#include <gtest/gtest.h>
#include <limits>
#include <string>
#include <torch/torch.h>

#include "rev/base/autocast_state.h"
#include "rev/base/error.h"
#include "rev/models/gpt2.h"
#include "rev/optim/clip.h"
#include "support/throws.h"

namespace rev::train {
namespace {

using at::Tensor;

constexpr double kMaxNorm = 0.5;  // less than the gradients' here, so that it matters
constexpr int64_t kTokens = 8;

struct Case {
  std::string scheme = "midpoint";
  bool bfloat16 = false;
  double dropout = 0.1;
  c10::Device device = c10::kCPU;
};

// A model and its optimizer, the same for the same case.
struct Trained {
  explicit Trained(const Case& is)
      : autocast{is.device.type(), is.bfloat16, at::kBFloat16},
        model((torch::manual_seed(3), config(is))) {
    model->to(is.device);
    optimizer.emplace(optim::decay_matrices(model->state_dict(), 0.1));
    torch::manual_seed(4);
  }

  static models::Gpt2Config config(const Case& is) {
    models::Gpt2Config config;
    config.layers = 3;
    config.heads = 2;
    config.channels = 16;
    config.seq = kTokens;
    config.vocab = 32;
    config.dropout = is.dropout;
    config.scheme = is.scheme;
    if (is.scheme == "residual") config.memory = engine::Memory::Store;
    return config;
  }

  Tensor loss(const Tensor& inputs, const Tensor& targets) {
    const base::AutocastGuard cast(autocast);
    return model->loss(inputs, targets);
  }

  DeviceStep device_step(double max_norm = kMaxNorm) {
    return DeviceStep([this](const Tensor& x, const Tensor& y) { return loss(x, y); },
                      model->stack(), *optimizer, max_norm);
  }

  // The same as DeviceStep::run, with waits.
  DeviceStep::Result step(const std::vector<data::Batch>& batches, double lr) {
    const auto device = model->parameters()[0].device();
    const auto n = static_cast<int64_t>(batches.size());
    DeviceStep::Result result{};
    optimizer->zero_grad();
    Tensor sum = torch::zeros({}, device);
    for (const data::Batch& batch : batches) {
      const Tensor part = loss(batch.inputs.to(device), batch.targets.to(device)) / n;
      part.backward();
      sum += part.detach();
    }
    result.loss = sum.item<double>();
    result.grad_norm = optim::clip_grad_norm(optimizer->parameters(), kMaxNorm);
    optimizer->step(lr);
    return result;
  }

  base::AutocastState autocast;
  models::Gpt2 model;
  std::optional<optim::AdamW> optimizer;
};

std::vector<data::Batch> batches(int64_t n, int64_t seed) {
  std::vector<data::Batch> all;
  at::Generator generator = at::detail::createCPUGenerator(static_cast<uint64_t>(seed));
  for (int64_t i = 0; i < n; ++i) {
    const Tensor window = torch::randint(0, 32, {2, kTokens + 1}, generator, torch::kLong);
    all.push_back(
        {window.narrow(1, 0, kTokens).contiguous(), window.narrow(1, 1, kTokens).contiguous()});
  }
  return all;
}

void expect_same(const base::NamedTensors& a, const base::NamedTensors& b) {
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    EXPECT_TRUE(at::equal(a[i].second, b[i].second)) << a[i].first;
  }
}

void expect_the_same_training(const Case& is) {
  Trained waits(is), goes_on(is);
  constexpr int kSteps = 5;  // beyond those before a graph is captured
  std::vector<DeviceStep::Result> wanted;
  for (int i = 0; i < kSteps; ++i) wanted.push_back(waits.step(batches(2, i), 1e-2));
  torch::manual_seed(4);
  DeviceStep step = goes_on.device_step();
  for (int i = 0; i < kSteps; ++i) {
    const DeviceStep::Result got = step.run(batches(2, i), 1e-2);
    EXPECT_EQ(got.loss, wanted[static_cast<size_t>(i)].loss) << i;
    EXPECT_EQ(got.grad_norm, wanted[static_cast<size_t>(i)].grad_norm) << i;
    EXPECT_GT(got.grad_norm, kMaxNorm);
  }
  expect_same(goes_on.model->state_dict(), waits.model->state_dict());
  expect_same(goes_on.optimizer->state(), waits.optimizer->state());
  EXPECT_EQ(goes_on.model->stack().take_report().rows_differing, 0);
}

TEST(DeviceStepTest, TrainsToTheBitsOfStepsThatWait) {
  for (const char* scheme : {"residual", "midpoint", "midpoint-a", "leapfrog", "hamiltonian"}) {
    for (const bool bfloat16 : {false, true}) {
      SCOPED_TRACE(scheme + std::string(bfloat16 ? " bfloat16" : ""));
      expect_the_same_training({scheme, bfloat16});
    }
  }
}

TEST(DeviceStepTest, AStateThatLeavesTheGridChangesNothing) {
  Trained is({});
  DeviceStep step = is.device_step();
  step.run(batches(1, 0), 1e-2);
  {
    const at::NoGradGuard no_grad;
    for (Tensor& p : is.model->parameters()) p.mul_(1e6);
  }
  base::NamedTensors before;
  for (const auto& [name, tensor] : is.model->state_dict()) {
    before.emplace_back(name, tensor.clone());
  }
  EXPECT_THROW(step.run(batches(1, 1), 1e-2), base::Saturated);
  expect_same(is.model->state_dict(), before);
  for (const auto& [name, tensor] : is.optimizer->state()) {
    if (name.ends_with(".step")) {
      EXPECT_EQ(tensor.item<float>(), 1) << name;
    }
  }
  // Validation, which does not go through the step, throws by itself again.
  const at::NoGradGuard no_graph;
  EXPECT_THROW(is.model->forward(batches(1, 2)[0].inputs), base::Saturated);
}

TEST(DeviceStepTest, ANormThatIsNotFiniteChangesNothing) {
  Trained is({.dropout = 0});
  double factor = std::numeric_limits<double>::infinity();
  DeviceStep step([&](const Tensor& x, const Tensor& y) { return is.loss(x, y) * factor; },
                  is.model->stack(), *is.optimizer, kMaxNorm);
  const Tensor before = is.model->parameters()[0].clone();
  EXPECT_FALSE(std::isfinite(step.run(batches(1, 0), 1e-2).grad_norm));
  EXPECT_TRUE(at::equal(is.model->parameters()[0], before));
  factor = 1;
  EXPECT_TRUE(std::isfinite(step.run(batches(1, 0), 1e-2).grad_norm));
  EXPECT_FALSE(at::equal(is.model->parameters()[0], before));
}

TEST(DeviceStepTest, RefusesWhatDoesNotFit) {
  Trained is({});
  DeviceStep step = is.device_step();
  EXPECT_THROW_WITH(step.run({}, 1e-2), "expected a micro-batch, got none");
  step.run(batches(2, 0), 1e-2);
  EXPECT_THROW_WITH(step.run(batches(1, 0), 1e-2), "the first had 2 micro-batches, this one has 1");
  std::vector<data::Batch> others = batches(2, 0);
  others[1].inputs = others[1].inputs.narrow(1, 0, 4);
  EXPECT_THROW_WITH(step.run(others, 1e-2), "[2, 8] as at the first step, got [2, 4]");
  EXPECT_THROW_WITH(Trained({"revffn"}).device_step(), "RevFFN");
  Trained wide({});
  wide.model->to(at::kDouble);
  EXPECT_THROW_WITH(wide.device_step(), "must be float32 or bfloat16, got Double");
}

TEST(DeviceStepTest, AGraphTrainsToTheBitsOfStepsThatWait_CUDA) {
  if (!torch::cuda::is_available()) GTEST_SKIP() << "no CUDA device";
  for (const char* scheme : {"midpoint", "midpoint-a", "leapfrog", "hamiltonian"}) {
    for (const bool bfloat16 : {false, true}) {
      SCOPED_TRACE(scheme + std::string(bfloat16 ? " bfloat16" : ""));
      expect_the_same_training({scheme, bfloat16, 0, c10::Device(c10::kCUDA, 0)});
    }
  }
}

TEST(DeviceStepTest, EachReplayDrawsItsOwnMasksAndBackwardRepeatsThem_CUDA) {
  if (!torch::cuda::is_available()) GTEST_SKIP() << "no CUDA device";
  Trained is({.dropout = 0.5, .device = c10::Device(c10::kCUDA, 0)});
  DeviceStep step = is.device_step();
  std::set<double> losses;
  for (int i = 0; i < 8; ++i) losses.insert(step.run(batches(1, 0), 0).loss);
  EXPECT_EQ(losses.size(), 8u);  // of the same batch and weights; a layer that drew others in
  EXPECT_EQ(is.model->stack().take_report().rows_differing, 0);  // backward would have thrown
}

}  // namespace
}  // namespace rev::train
