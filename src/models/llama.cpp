#include "rev/models/llama.h"

#include <c10/util/Exception.h>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "models/llama_block.h"
#include "models/tied_head.h"
#include "rev/nn/key_value_cache.h"

namespace rev::models {

using at::Tensor;

LlamaImpl::LlamaImpl(const LlamaConfig& config) : config_(config) {
  check(config);
  const auto model = register_module("model", std::make_shared<torch::nn::Module>("Model"));
  embed_tokens_ =
      model->register_module("embed_tokens", nn::Embedding(config.vocab, config.channels));
  const auto blocks =
      model->register_module("layers", std::make_shared<torch::nn::Module>("Layers"));
  std::vector<std::vector<engine::FieldPtr>> layers;
  for (int64_t l = 0; l < config.layers; ++l) {
    const LlamaBlock block = blocks->register_module(std::to_string(l), LlamaBlock(config));
    layers.push_back(make_fields(block, config.scheme));
  }
  norm_ = model->register_module("norm", nn::RMSNorm(config.channels, config.eps));
  if (!config.tied) {
    lm_head_ = register_module("lm_head",
                               nn::Projection(config.channels, config.vocab, /*with_bias=*/false));
  }
  stack_ = std::make_unique<engine::Stack>(make_stack(config_, std::move(layers)));
}

Tensor LlamaImpl::embed(const Tensor& tokens) {
  const int64_t left = config_.seq - nn::KeyValueCache::position();
  TORCH_CHECK(tokens.dim() == 2 && tokens.size(1) <= left, "llama: tokens are ", tokens.sizes(),
              ", expected [B,T] with T at most ", left);
  return embed_tokens_->forward(tokens);
}

const Tensor& LlamaImpl::head() const {
  return config_.tied ? embed_tokens_->weight : lm_head_->weight;
}

void LlamaImpl::load_state_dict(const base::NamedTensors& tensors) {
  base::NamedTensors named;
  for (const auto& tensor : tensors) {
    if (!tensor.first.ends_with(".rotary_emb.inv_freq")) named.push_back(tensor);
  }
  if (config_.tied) named = without_tied_head(named, "model.embed_tokens.weight", "llama");
  base::copy_named(state_dict(), named, "llama");
}

}  // namespace rev::models
