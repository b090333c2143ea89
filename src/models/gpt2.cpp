#include "rev/models/gpt2.h"

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "models/gpt2_block.h"
#include "models/tied_head.h"

namespace rev::models {

using at::Tensor;

namespace {

const std::string kPrefix = "transformer.";

// Hugging Face's older checkpoints hold the causal mask as buffers of each layer.
bool is_mask(const std::string& name) {
  return name.ends_with(".attn.bias") || name.ends_with(".attn.masked_bias");
}

}  // namespace

Gpt2Impl::Gpt2Impl(const Gpt2Config& config) : config_(config) {
  check(config);
  const auto transformer =
      register_module("transformer", std::make_shared<torch::nn::Module>("Transformer"));
  wte_ = transformer->register_module("wte", nn::Embedding(config.vocab, config.channels));
  wpe_ = transformer->register_module("wpe", nn::Embedding(config.seq, config.channels));
  const auto h = transformer->register_module("h", std::make_shared<torch::nn::Module>("Layers"));
  std::vector<std::vector<engine::FieldPtr>> layers;
  for (int64_t l = 0; l < config.layers; ++l) {
    const Block block = h->register_module(std::to_string(l), Block(config));
    layers.push_back(make_fields(block, config.scheme));
  }
  ln_f_ = transformer->register_module("ln_f", nn::LayerNorm(config.channels, config.bias));

  stack_ = std::make_unique<engine::Stack>(make_stack(config_, std::move(layers)));
}

Tensor Gpt2Impl::embed(const Tensor& tokens) {
  return nn::embed(tokens, wte_->weight, wpe_->weight, is_training() ? config_.dropout : 0);
}

void Gpt2Impl::load_state_dict(const base::NamedTensors& tensors) {
  base::NamedTensors named;
  for (const auto& [name, tensor] : tensors) {
    if (is_mask(name)) continue;
    const bool is_whole = name == "lm_head.weight" || name.starts_with(kPrefix);
    named.emplace_back(is_whole ? name : kPrefix + name, tensor);
  }
  named = without_tied_head(named, "transformer.wte.weight", "gpt2");
  base::copy_named(state_dict(), named, "gpt2");
}

}  // namespace rev::models
