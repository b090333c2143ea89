#include "rev/train/stability.h"

#include <ATen/core/grad_mode.h>
#include <algorithm>
#include <functional>
#include <numeric>
#include <optional>

#include "rev/engine/jacobian.h"

namespace rev::train {

std::vector<LayerJacobian> unstable_layers(models::Gpt2& model, const at::Tensor& tokens) {
  constexpr int64_t kIterations = 10;
  std::vector<LayerJacobian> unstable;
  const engine::Stack& stack = model->stack();
  std::vector<std::optional<double>> limits;
  for (int64_t l = 0; l < stack.n_layers(); ++l) limits.push_back(stack.scheme().stable_norm(l));
  if (std::count(limits.begin(), limits.end(), std::nullopt) == stack.n_layers()) return unstable;
  const at::NoGradGuard no_graph;
  const auto norms = engine::jacobian_norms(stack, model->embed(tokens), kIterations, /*seed=*/0);
  for (int64_t l = 0; l < stack.n_layers(); ++l) {
    const std::optional<double> limit = limits[static_cast<size_t>(l)];
    if (!limit) continue;
    const std::vector<double>& of_layer = norms[static_cast<size_t>(l)];
    const double norm =
        std::accumulate(of_layer.begin(), of_layer.end(), 1.0, std::multiplies<double>());
    if (norm > *limit) unstable.push_back({l, norm, *limit});
  }
  return unstable;
}

}  // namespace rev::train
