#include "rev/models/gpt2.h"

#include <ATen/ops/equal.h>
#include <string>
#include <utility>
#include <vector>

#include "models/gpt2_block.h"
#include "rev/nn/linear.h"
#include "rev/nn/linear_cross_entropy.h"

namespace rev::models {

using at::Tensor;

namespace {

const std::string kPrefix = "transformer.";

// Hugging Face's older checkpoints hold the causal mask as buffers of each layer.
bool is_mask(const std::string& name) {
  return name.ends_with(".attn.bias") || name.ends_with(".attn.masked_bias");
}

// 4 V bytes a token: few tokens stay in a CPU's cache, a GPU needs many to fill its products.
int64_t loss_chunk(const Tensor& x) { return x.is_cuda() ? 8192 : 1024; }

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

  const auto scheme = make_scheme(config);
  config_.memory =
      config.memory.value_or(scheme->invertible() ? engine::Memory::Invert : engine::Memory::Store);
  engine::StackOptions options;
  options.memory = *config_.memory;
  if (config.scheme == "residual") options.state.dtype = at::kFloat;
  if (config.state) options.state = *config.state;
  stack_ = std::make_unique<engine::Stack>(scheme, std::move(layers), options);
}

Tensor Gpt2Impl::embed(const Tensor& tokens) {
  return nn::embed(tokens, wte_->weight, wpe_->weight, is_training() ? config_.dropout : 0);
}

// [B,T] -> [B,T,C]
Tensor Gpt2Impl::hidden(const Tensor& tokens) {
  return ln_f_->forward(stack_->forward(embed(tokens)));
}

Tensor Gpt2Impl::forward(const Tensor& tokens) {
  return nn::affine(hidden(tokens), wte_->weight.t());
}

Tensor Gpt2Impl::next(const Tensor& tokens) {
  return nn::affine(hidden(tokens).select(1, -1), wte_->weight.t());
}

Tensor Gpt2Impl::loss(const Tensor& tokens, const Tensor& targets) {
  TORCH_CHECK(tokens.sizes() == targets.sizes(), "gpt2: tokens are ", tokens.sizes(),
              " but targets ", targets.sizes());
  const Tensor x = hidden(tokens).flatten(0, 1);  // [BT,C]
  return nn::linear_cross_entropy(x, wte_->weight, targets.flatten(), loss_chunk(x));
}

base::NamedTensors Gpt2Impl::state_dict() const {
  base::NamedTensors all;
  for (const auto& named : named_parameters()) all.emplace_back(named.key(), named.value());
  return all;
}

void Gpt2Impl::load_state_dict(const base::NamedTensors& tensors) {
  base::NamedTensors named;
  Tensor head, table;
  for (const auto& [name, tensor] : tensors) {
    if (is_mask(name)) continue;
    if (name == "lm_head.weight") {
      head = tensor;
      continue;
    }
    named.emplace_back(name.starts_with(kPrefix) ? name : kPrefix + name, tensor);
    if (named.back().first == "transformer.wte.weight") table = tensor;
  }
  TORCH_CHECK(!head.defined() || !table.defined() || at::equal(head, table),
              "gpt2: lm_head.weight differs from transformer.wte.weight, but this model's head is "
              "tied to its token table");
  base::copy_named(state_dict(), named, "gpt2");
}

}  // namespace rev::models
