#include <cmath>
#include <fmt/format.h>
#include <stdexcept>
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

// What inverting is for: a peak that does not grow, and storing's, that does in proportion. (On the
// CPU each byte is counted; a device's allocator rounds. Fewer than 4 layers are all ends.)
void check_growth(const Series& line, engine::Memory policy, c10::Device device) {
  constexpr double kTolerance = 0.02;
  if (!device.is_cpu()) return;
  std::vector<size_t> deep;
  for (size_t i = 0; i < line.x.size(); ++i) {
    if (line.x[i] >= 4) deep.push_back(i);
  }
  const auto slope = [&](size_t i, size_t j) {
    return (line.y[j] - line.y[i]) / (line.x[j] - line.x[i]);
  };
  for (size_t i = 1; i < deep.size(); ++i) {
    const double growth = line.y[deep[i]] / line.y[deep[0]];
    if (policy == engine::Memory::Invert && std::abs(growth - 1) > kTolerance) {
      throw std::runtime_error(
          fmt::format("memory: inverting {} layers takes {:.3f} times what {} take",
                      line.x[deep[i]], growth, line.x[deep[0]]));
    }
    if (policy != engine::Memory::Store || i < 2) continue;
    const double ratio = slope(deep[i - 1], deep[i]) / slope(deep[0], deep[1]);
    if (std::abs(ratio - 1) > kTolerance) {
      throw std::runtime_error(
          fmt::format("memory: storing {} layers takes {:.3f} times as much for "
                      "each more as {} do",
                      line.x[deep[i]], ratio, line.x[deep[1]]));
    }
  }
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
    check_growth(line, policy, options.device);
    lines.push_back(std::move(line));
  }
  return table;
}

}  // namespace rev::bench
