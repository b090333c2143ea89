#include "rev/models/causal_lm.h"

#include <ATen/core/grad_mode.h>

#include "rev/nn/linear.h"
#include "rev/nn/linear_cross_entropy.h"

namespace rev::models {

using at::Tensor;

namespace {

// 4 V bytes a token: few tokens stay in a CPU's cache, a GPU needs many to fill its products.
int64_t loss_chunk(const Tensor& x) { return x.is_cuda() ? 8192 : 1024; }

}  // namespace

Tensor CausalLm::hidden(const Tensor& tokens, nn::KeyValueCache* cache) {
  if (cache == nullptr) return norm(stack_->forward(embed(tokens)));
  TORCH_CHECK(!is_training() && !at::GradMode::is_enabled(),
              "a key/value cache is for evaluation without gradients, but ",
              is_training() ? "the model is in training" : "gradients are on");
  nn::KeyValueCache::Scope scope(*cache);
  const Tensor x = norm(stack_->forward(embed(tokens)));
  scope.commit();
  return x;
}

Tensor CausalLm::forward(const Tensor& tokens, nn::KeyValueCache* cache) {
  return nn::project(hidden(tokens, cache), head());
}

Tensor CausalLm::next(const Tensor& tokens, nn::KeyValueCache* cache) {
  return nn::project(hidden(tokens, cache).select(1, -1), head());
}

Tensor CausalLm::loss(const Tensor& tokens, const Tensor& targets) {
  TORCH_CHECK(tokens.sizes() == targets.sizes(), "loss: tokens are ", tokens.sizes(),
              " but targets ", targets.sizes());
  const Tensor x = hidden(tokens).flatten(0, 1);  // [BT,C]
  return nn::linear_cross_entropy(x, head(), targets.flatten(), loss_chunk(x));
}

base::NamedTensors CausalLm::state_dict() const {
  base::NamedTensors all;
  for (const auto& named : named_parameters()) all.emplace_back(named.key(), named.value());
  return all;
}

}  // namespace rev::models
