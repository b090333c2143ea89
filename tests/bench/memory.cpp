#include <fmt/format.h>
#include <torch/torch.h>

#include "bench/commands.h"
#include "rev/base/autocast_state.h"
#include "rev/base/memory_stats.h"
#include "rev/models/gpt2.h"

namespace rev::bench {
namespace {

struct Peak {
  int64_t bytes = 0;
  int64_t kept_for_exactness = 0;
};

Peak peak_of(const models::Gpt2Config& config, int64_t batch, bool bfloat16) {
  torch::manual_seed(1);
  models::Gpt2 model(config);
  for (at::Tensor p : model->parameters()) p.mutable_grad() = torch::zeros_like(p);
  // Gradients are added up as they become final, so that none is held twice.
  engine::Stack& stack = model->stack();
  stack.set_sink([&stack](int64_t l, std::vector<at::Tensor>& grads) {
    const std::vector<at::Tensor> parameters = stack.layer_parameters(l);
    for (size_t i = 0; i < grads.size(); ++i) {
      if (!grads[i].defined()) continue;
      parameters[i].mutable_grad().add_(grads[i]);
      grads[i] = at::Tensor();
    }
  });
  const at::Tensor tokens = torch::randint(config.vocab, {batch, config.seq}, at::kLong);
  const int64_t before = base::memory_stats().live_bytes;
  base::reset_peak_memory();
  at::Tensor loss;
  {
    const base::AutocastGuard cast({at::kCPU, bfloat16, at::kBFloat16});
    loss = model->loss(tokens, tokens);
  }
  loss.backward();
  const int64_t kept = stack.take_report().witness_bytes;
  return {base::memory_stats().peak_bytes - before - kept, kept};
}

}  // namespace

Table memory(const MemoryOptions& options, std::vector<Series>& lines) {
  base::count_memory();
  Table table{{"policy", "layers", "peak MiB", "kept for exactness MiB", "ratio to first depth"},
              {}};
  const std::vector<std::pair<std::string, engine::Memory>> policies = {
      {"store", engine::Memory::Store},
      {"checkpoint", engine::Memory::Checkpoint},
      {"invert", engine::Memory::Invert}};
  constexpr double kMiB = 1 << 20;
  for (const auto& [name, policy] : policies) {
    Series line{name, {}, {}};
    for (const int64_t depth : options.depths) {
      models::Gpt2Config config;
      config.layers = depth;
      config.channels = options.channels;
      config.heads = options.channels / 64;
      config.seq = options.tokens;
      config.vocab = 256;
      config.scheme = options.scheme;
      config.memory = policy;
      const Peak peak = peak_of(config, options.batch, options.bfloat16);
      line.x.push_back(static_cast<double>(depth));
      line.y.push_back(static_cast<double>(peak.bytes) / kMiB);
      table.rows.push_back(
          {name, std::to_string(depth), fmt::format("{:.2f}", line.y.back()),
           fmt::format("{:.3f}", static_cast<double>(peak.kept_for_exactness) / kMiB),
           fmt::format("{:.3f}", line.y.back() / line.y.front())});
    }
    lines.push_back(std::move(line));
  }
  return table;
}

}  // namespace rev::bench
