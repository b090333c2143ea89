#include <chrono>
#include <fmt/format.h>
#include <torch/torch.h>

#include "bench/commands.h"
#include "rev/base/autocast_state.h"
#include "rev/models/gpt2.h"
#include "rev/optim/adamw.h"

namespace rev::bench {
namespace {

struct Arm {
  std::string name;
  models::Gpt2 model{nullptr};
  std::unique_ptr<optim::AdamW> optimizer;
  std::vector<double> seconds;
};

}  // namespace

Table step(const StepOptions& options) {
  const auto make = [&](const std::string& name, const std::string& scheme, engine::Memory memory,
                        at::ScalarType state) {
    models::Gpt2Config config;
    config.layers = options.layers;
    config.channels = options.channels;
    config.heads = options.channels / 64;
    config.seq = options.tokens;
    config.vocab = 256;
    config.scheme = scheme;
    config.memory = memory;
    config.state = schemes::StateOptions{state, 16};
    torch::manual_seed(1);
    Arm arm{name, models::Gpt2(config), nullptr, {}};
    arm.model->to(options.device);
    arm.optimizer =
        std::make_unique<optim::AdamW>(optim::decay_matrices(arm.model->state_dict(), 0.1));
    return arm;
  };
  using engine::Memory;
  std::vector<Arm> arms;
  arms.push_back(make("invert, grid", options.scheme, Memory::Invert, at::kInt));
  arms.push_back(make("store, grid", options.scheme, Memory::Store, at::kInt));
  arms.push_back(make("checkpoint, grid", options.scheme, Memory::Checkpoint, at::kInt));
  arms.push_back(make("invert, float32", options.scheme, Memory::Invert, at::kFloat));
  arms.push_back(make("residual, store, float32", "residual", Memory::Store, at::kFloat));

  torch::manual_seed(2);
  const at::Tensor tokens =
      torch::randint(256, {options.batch, options.tokens + 1}, at::kLong).to(options.device);
  const at::Tensor inputs = tokens.narrow(1, 0, options.tokens).contiguous();
  const at::Tensor targets = tokens.narrow(1, 1, options.tokens).contiguous();
  std::vector<double> losses(arms.size());
  for (int64_t round = -1; round < options.rounds; ++round) {  // the first warms up
    for (size_t i = 0; i < arms.size(); ++i) {
      Arm& arm = arms[i];
      const auto start = std::chrono::steady_clock::now();
      at::Tensor loss;
      {
        const base::AutocastGuard cast({options.device.type(), options.bfloat16, at::kBFloat16});
        loss = arm.model->loss(inputs, targets);
      }
      loss.backward();
      arm.optimizer->step(1e-4);
      arm.optimizer->zero_grad();
      if (options.device.is_cuda()) torch::cuda::synchronize();
      const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
      losses[i] = loss.item<double>();
      if (round >= 0) arm.seconds.push_back(took.count());
    }
    TORCH_CHECK(losses[0] == losses[1] && losses[0] == losses[2],
                "step: the policies gave different losses: ", losses);
  }
  Table table{{"numerator", "denominator", "ratio", "least", "largest", "numerator ms"}, {}};
  const auto ratio = [&](size_t above, size_t below) {
    std::vector<double> ratios;
    for (size_t r = 0; r < arms[above].seconds.size(); ++r) {
      ratios.push_back(arms[above].seconds[r] / arms[below].seconds[r]);
    }
    const Spread s = spread(ratios);
    table.rows.push_back({arms[above].name, arms[below].name, fmt::format("{:.3f}", s.median),
                          fmt::format("{:.3f}", s.least), fmt::format("{:.3f}", s.largest),
                          fmt::format("{:.1f}", spread(arms[above].seconds).median * 1e3)});
  };
  ratio(0, 1);
  ratio(0, 2);
  ratio(0, 3);
  ratio(0, 4);
  ratio(1, 4);
  return table;
}

}  // namespace rev::bench
