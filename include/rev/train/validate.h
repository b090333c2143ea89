#pragma once

#include <ATen/core/Tensor.h>
#include <cstdint>
#include <functional>

#include "rev/data/batches.h"

namespace rev::train {

struct ValidationOptions {
  int64_t batch = 16;      ///< B, sequences in a batch
  int64_t seq = 64;        ///< T, tokens in a sequence
  int64_t n_batches = 20;  ///< at most
};

/// The mean of loss(batch), a scalar each, over batches of windows that are spread evenly over the
/// data, each window weighing the same. No graph is recorded; put the model into evaluation before.
/// Throws c10::Error where the data are no longer than a window or a size is not positive.
double validate(const data::TokenSource& tokens, const ValidationOptions& options,
                const std::function<at::Tensor(const data::Batch&)>& loss);

}  // namespace rev::train
