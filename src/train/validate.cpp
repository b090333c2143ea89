#include "rev/train/validate.h"

#include <ATen/core/grad_mode.h>
#include <algorithm>
#include <c10/util/Exception.h>

namespace rev::train {

double validate(const data::TokenSource& tokens, const ValidationOptions& options,
                const std::function<at::Tensor(const data::Batch&)>& loss) {
  const auto [B, T, most] = options;
  TORCH_CHECK(B > 0 && most > 0, "validate: expected a batch and batches of at least 1, got ", B,
              " and ", most);
  const int64_t n_windows = data::count_windows(tokens, T);
  TORCH_CHECK(n_windows > 0, "validate: windows of ", T, " need at least ", T + 1,
              " tokens, the data have ", tokens.size());
  const at::NoGradGuard no_graph;
  const int64_t n_batches = std::min(most, (n_windows - 1) / B + 1);
  const int64_t stride = std::max(B, n_windows / n_batches);
  double sum = 0;
  int64_t n = 0;
  for (int64_t i = 0; i < n_batches; ++i) {
    const data::Batch batch = data::sequential_batch(tokens, i * stride, B, T);
    sum += loss(batch).item<double>() * static_cast<double>(batch.inputs.size(0));
    n += batch.inputs.size(0);
  }
  return sum / static_cast<double>(n);
}

}  // namespace rev::train
