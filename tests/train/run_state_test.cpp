#include "rev/train/run_state.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "support/temp_folder.h"
#include "support/throws.h"

namespace rev::train {
namespace {

models::Gpt2Config small(int64_t channels = 8) {
  models::Gpt2Config config;
  config.layers = 3;
  config.heads = 2;
  config.channels = channels;
  config.seq = 8;
  config.vocab = 32;
  config.dropout = 0.1;
  return config;
}

// Two steps of training with what has been restored or made.
struct Trainer {
  explicit Trainer(uint64_t seed, int64_t channels = 8)
      : model((torch::manual_seed(seed), small(channels))),
        optimizer(optim::decay_matrices(model->state_dict(), 0.1)) {}

  void steps(int n) {
    for (int i = 0; i < n; ++i) {
      optimizer.zero_grad();
      const at::Tensor tokens = torch::randint(32, {2, 9});
      model->loss(tokens.narrow(1, 0, 8), tokens.narrow(1, 1, 8)).backward();
      optimizer.step(1e-2);
    }
  }
  RunState state() { return {model, &optimizer, c10::kCPU}; }

  models::Gpt2 model;
  optim::AdamW optimizer;
};

void expect_same_weights(Trainer& a, Trainer& b) {
  const auto others = b.model->state_dict();
  for (size_t i = 0; i < others.size(); ++i) {
    EXPECT_TRUE(at::equal(a.model->state_dict()[i].second, others[i].second)) << others[i].first;
  }
}

TEST(RunStateTest, ARestoredRunGoesOnToTheSameBits) {
  support::TempFolder folder;
  Trainer whole(1);
  whole.steps(2);
  const auto path =
      io::save_checkpoint(folder.path(), take_checkpoint(whole.state(), 2, {{"lr", 0.1}}));
  whole.steps(2);

  Trainer other(7);
  other.steps(1);
  const io::Checkpoint checkpoint = io::load_checkpoint(path);
  EXPECT_EQ(checkpoint.step, 2);
  EXPECT_EQ(settings_of(checkpoint, "here"), (Settings{{"lr", 0.1}}));
  restore_checkpoint(checkpoint, other.state());
  other.steps(2);
  expect_same_weights(whole, other);
}

TEST(RunStateTest, LayersThatCouldNotBeInvertedStayCheckpointed) {
  Trainer a(1), b(1);
  a.model->stack().set_memory(1, engine::Memory::Checkpoint);
  restore_checkpoint(take_checkpoint(a.state(), 0, {}), b.state());
  EXPECT_EQ(b.model->stack().memory(0), engine::Memory::Invert);
  EXPECT_EQ(b.model->stack().memory(1), engine::Memory::Checkpoint);
}

TEST(RunStateTest, RefusesWhatDoesNotFit) {
  Trainer a(1), wide(1, 16);
  const io::Checkpoint checkpoint = take_checkpoint(a.state(), 0, {});
  EXPECT_THROW_WITH(restore_checkpoint(checkpoint, wide.state()), "transformer.wte.weight");
  io::Checkpoint cut = checkpoint;
  cut.groups.erase("generators");
  EXPECT_THROW_WITH(restore_checkpoint(cut, a.state()), "has no group generators");
  cut.state = "[]";
  EXPECT_THROW_WITH(settings_of(cut, "step-0"), "step-0: its state is not that of a training run");
}

}  // namespace
}  // namespace rev::train
