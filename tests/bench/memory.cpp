#include <fmt/format.h>
#include <torch/torch.h>

#include "bench/commands.h"
#include "rev/base/autocast_state.h"
#include "rev/base/memory_stats.h"
#include "rev/models/gpt2.h"
#include "rev/train/peak_memory.h"

namespace rev::bench {
namespace {

constexpr double kMiB = 1 << 20;

struct Peak {
  double mib = 0;
  double kept_for_exactness = 0;
};

Peak peak_of(const models::Gpt2Config& config, int64_t batch, bool bfloat16, c10::Device device) {
  torch::manual_seed(1);
  models::Gpt2 model(config);
  model->to(device);
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
  const at::Tensor tokens = torch::randint(config.vocab, {batch, config.seq}, at::kLong).to(device);
  train::reset_peak(device);
  const double before = train::peak_mib(device);  // what is alive now
  at::Tensor loss;
  {
    const base::AutocastGuard cast({device.type(), bfloat16, at::kBFloat16});
    loss = model->loss(tokens, tokens);
  }
  loss.backward();
  const double kept = static_cast<double>(stack.take_report().witness_bytes) / kMiB;
  return {train::peak_mib(device) - before - kept, kept};
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
      const Peak peak = peak_of(config, options.batch, options.bfloat16, options.device);
      line.x.push_back(static_cast<double>(depth));
      line.y.push_back(peak.mib);
      table.rows.push_back({name, std::to_string(depth), fmt::format("{:.2f}", line.y.back()),
                            fmt::format("{:.3f}", peak.kept_for_exactness),
                            fmt::format("{:.3f}", line.y.back() / line.y.front())});
    }
    lines.push_back(std::move(line));
  }
  return table;
}

}  // namespace rev::bench
