// Small pairs of a residual Llama and what it is converted to.
#pragma once

#include <memory>
#include <torch/torch.h>

#include "rev/models/llama.h"

namespace rev::retrofit {

inline models::LlamaConfig small_config(int64_t layers = 4) {
  models::LlamaConfig config;
  config.layers = layers;
  config.heads = 4;
  config.kv_heads = 2;
  config.channels = 16;
  config.hidden = 24;
  config.seq = 12;
  config.vocab = 31;
  config.rotary.width = 4;
  config.scheme = "residual";
  return config;
}

/// The same weights, larger than at the start of training, under both couplings.
struct Pair {
  explicit Pair(models::LlamaConfig config, models::Coupling coupling)
      : original(config), converted((static_cast<models::Coupling&>(config) = coupling, config)) {
    const torch::NoGradGuard no_graph;
    for (torch::Tensor& p : original->parameters()) p.add_(torch::randn_like(p), 0.1);
    converted->load_state_dict(original->state_dict());
    original->eval();
  }
  models::Llama original, converted;
};

inline models::Coupling retrofit_with(std::vector<double> a, int64_t inner = 0) {
  models::Coupling coupling;
  coupling.scheme = "retrofit";
  coupling.a = std::move(a);
  coupling.inner = inner;
  return coupling;
}

}  // namespace rev::retrofit
