#include "rev/train/stability.h"

#include <ATen/core/grad_mode.h>
#include <functional>
#include <map>
#include <numeric>
#include <optional>
#include <string>

#include "rev/engine/jacobian.h"
#include "rev/nn/embedding.h"
#include "rev/schemes/stability.h"

namespace rev::train {

std::vector<LayerJacobian> unstable_layers(models::Gpt2& model, const at::Tensor& tokens) {
  constexpr int64_t kIterations = 10;
  std::vector<LayerJacobian> unstable;
  const engine::Stack& stack = model->stack();
  if (!schemes::stable_norm(stack.scheme(), 0)) return unstable;
  const at::NoGradGuard no_graph;
  const base::NamedTensors named = model->state_dict();
  const std::map<std::string, at::Tensor> weights(named.begin(), named.end());
  const at::Tensor x =
      nn::embed(tokens, weights.at("transformer.wte.weight"), weights.at("transformer.wpe.weight"));
  const auto norms = engine::jacobian_norms(stack, x, kIterations, /*seed=*/0);
  // Layer 0 of a two-step scheme is a plain residual step (schemes::Start::Euler), which no root
  // belongs to.
  const int64_t first = stack.scheme().fields_per_layer() == 1 ? 1 : 0;
  for (int64_t l = first; l < stack.n_layers(); ++l) {
    const std::vector<double>& of_layer = norms[static_cast<size_t>(l)];
    const double norm =
        std::accumulate(of_layer.begin(), of_layer.end(), 1.0, std::multiplies<double>());
    const double limit = schemes::stable_norm(stack.scheme(), l).value();
    if (norm > limit) unstable.push_back({l, norm, limit});
  }
  return unstable;
}

}  // namespace rev::train
