#include "rev/retrofit/distillation.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "retrofit/models.h"
#include "rev/base/autocast_state.h"
#include "rev/base/memory_stats.h"
#include "rev/kernels/cross_entropy.h"
#include "support/throws.h"

namespace rev::retrofit {
namespace {

using at::Tensor;

struct Text {
  Text() {
    torch::manual_seed(8);
    tokens = torch::randint(31, {3, 12});
    targets = torch::randint(31, {3, 12});
    targets[1].slice(0, 5).fill_(kernels::kIgnoreIndex);
  }
  Tensor tokens, targets;
};

std::vector<Tensor> gradients(models::Llama& model, const Tensor& loss) {
  model->zero_grad();
  loss.backward();
  std::vector<Tensor> all;
  for (const Tensor& p : model->parameters()) all.push_back(p.grad().clone());
  return all;
}

TEST(DistillationTest, IsTheFormulaAndItsGradients) {
  const Text text;
  Pair pair(small_config(), retrofit_with({-0.5}));
  const Tensor kept = text.targets.ne(kernels::kIgnoreIndex);
  for (const auto direction : {nn::Divergence::Forward, nn::Divergence::Reverse}) {
    for (const auto& [t, m] : {std::pair{1.0, 0.0}, {2.0, 0.0}, {2.0, 0.25}, {1.0, 1.0}}) {
      const Tensor p =
          torch::log_softmax(pair.original->forward(text.tokens).detach() / t, -1).index({kept});
      const Tensor logits = pair.converted->forward(text.tokens).index({kept});
      const Tensor q = torch::log_softmax(logits / t, -1);
      const bool forward = direction == nn::Divergence::Forward;
      const Tensor kl = forward ? (p.exp() * (p - q)).sum(1) : (q.exp() * (q - p)).sum(1);
      const Tensor own =
          torch::nll_loss(torch::log_softmax(logits, -1), text.targets.index({kept}));
      const Tensor formula = (1 - m) * t * t * kl.mean() + m * own;
      const auto expected = gradients(pair.converted, formula);
      const Tensor loss = distillation_loss(*pair.original, *pair.converted, text.tokens,
                                            text.targets, {direction, t, m});
      const auto found = gradients(pair.converted, loss);
      // float32 in two orders of sums: some 1e-6 of values of size 1 to 10.
      EXPECT_NEAR(loss.item<double>(), formula.item<double>(), 1e-5);
      for (size_t i = 0; i < found.size(); ++i) {
        const double size = expected[i].norm().item<double>();
        EXPECT_LT((found[i] - expected[i]).norm().item<double>(), 1e-4 * (size + 1e-2)) << i;
      }
    }
  }
}

TEST(DistillationTest, TheOriginalGetsNoGradient) {
  const Text text;
  Pair pair(small_config(), retrofit_with({-0.5}));
  distillation_loss(*pair.original, *pair.converted, text.tokens, text.targets).backward();
  for (const Tensor& p : pair.original->parameters()) EXPECT_FALSE(p.grad().defined());
}

TEST(DistillationTest, InvertingGivesTheBitsOfStoring) {
  const Text text;
  for (const int64_t inner : {0, 1}) {
    for (const bool bfloat16 : {false, true}) {
      Pair pair(small_config(), retrofit_with({-0.125}, inner));
      const auto run = [&](engine::Memory memory) {
        for (int64_t l = 0; l < 4; ++l) pair.converted->stack().set_memory(l, memory);
        const base::AutocastGuard autocast({c10::kCPU, bfloat16, at::kBFloat16});
        const Tensor loss =
            distillation_loss(*pair.original, *pair.converted, text.tokens, text.targets);
        auto all = gradients(pair.converted, loss);
        all.push_back(loss.detach());
        return all;
      };
      const auto stored = run(engine::Memory::Store), inverted = run(engine::Memory::Invert);
      EXPECT_EQ(pair.converted->stack().take_report().rows_differing, 0);
      for (size_t i = 0; i < stored.size(); ++i) EXPECT_TRUE(at::equal(stored[i], inverted[i]));
    }
  }
}

TEST(DistillationTest, BringsAConvertedModelNearer) {
  const Text text;
  Pair pair(small_config(), retrofit_with({-0.5}));
  torch::optim::Adam optimizer(pair.converted->parameters(), 3e-3);
  double first = 0, last = 0;
  for (int step = 0; step < 60; ++step) {
    optimizer.zero_grad();
    const Tensor loss =
        distillation_loss(*pair.original, *pair.converted, text.tokens, text.targets);
    loss.backward();
    optimizer.step();
    last = loss.item<double>();
    if (step == 0) first = last;
  }
  EXPECT_GT(first, 1e-3);
  EXPECT_LT(last, first / 4);
}

TEST(DistillationTest, PeakMemoryDoesNotGrowWithDepth) {
  base::count_memory();
  const auto peak = [](int64_t layers) {
    models::LlamaConfig config = small_config(layers);
    config.channels = 64;
    config.seq = 128;
    Pair pair(config, retrofit_with({1}));
    for (Tensor& p : pair.converted->parameters()) p.mutable_grad() = torch::zeros_like(p);
    const Tensor tokens = torch::randint(31, {2, 128});
    int64_t before = 0;
    for (int i = 0; i < 2; ++i) {  // the first makes what stays
      pair.converted->stack().take_report();
      before = base::memory_stats().live_bytes;
      base::reset_peak_memory();
      const Tensor loss = distillation_loss(*pair.original, *pair.converted, tokens, tokens);
      loss.backward();
    }
    int64_t gradients = 0;  // the node returns them all at its end
    for (const Tensor& p : pair.converted->parameters()) gradients += p.numel() * 4;
    return static_cast<double>(base::memory_stats().peak_bytes - before - gradients -
                               pair.converted->stack().take_report().witness_bytes);
  };
  const double shallow = peak(10), deep = peak(30);
  EXPECT_NEAR(deep / shallow, 1.0, 0.05);
}

TEST(DistillationTest, RefusesWhatDoesNotFit) {
  const Text text;
  Pair pair(small_config(), retrofit_with({-0.5}));
  const auto loss = [&](const Tensor& targets, const DistillationOptions& options) {
    return distillation_loss(*pair.original, *pair.converted, text.tokens, targets, options);
  };
  EXPECT_THROW_WITH(loss(text.targets, {nn::Divergence::Forward, 1, 1.5}),
                    "the share of cross-entropy is 1.5, expected a number from 0 to 1");
  EXPECT_THROW_WITH(loss(text.targets, {nn::Divergence::Forward, 0, 0}),
                    "the temperature is 0, expected a finite number above 0");
  EXPECT_THROW_WITH(loss(text.targets.slice(1, 0, 5), {}),
                    "distillation: tokens are [3, 12] but targets [3, 5]");
  models::LlamaConfig other = small_config();
  other.vocab = 37;
  models::Llama larger(other);
  EXPECT_THROW_WITH(distillation_loss(*larger, *pair.converted, text.tokens, text.targets),
                    "the teacher's x is [36, 16] and weight [37, 16]");
}

}  // namespace
}  // namespace rev::retrofit
