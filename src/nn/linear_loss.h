// A loss of logits x W^T, in chunks of tokens: what the losses of a language model's head share.
#pragma once

#include <ATen/core/Tensor.h>
#include <cstdint>
#include <functional>

namespace rev::nn {

/// The dtype in which products with x are taken: autocast's where it is on, but for float64.
at::ScalarType product_dtype(const at::Tensor& x);

/// The logits x W^T of tokens begin to begin + n, in float32 where the product's dtype is float16,
/// which the losses' kernels do not take. x [N,C], weight [V,C] of the product's dtype.
at::Tensor chunk_logits(const at::Tensor& x, const at::Tensor& weight, int64_t begin, int64_t n);

/// The losses [n] of the tokens from `begin` on, whose logits [n,V] become the gradient of the
/// losses' sum where it is wanted.
using RowLosses = std::function<at::Tensor(at::Tensor& logits, int64_t begin, bool want_gradient)>;

struct LinearLossOptions {
  const char* name;     ///< in messages
  int64_t chunk;        ///< tokens at a time
  at::Tensor n_counts;  ///< int64 []: the loss is the sum over rows, divided by this (at least 1)
};

/// Checks shapes, and returns the loss as a scalar in float32 at least. What a graph keeps are the
/// gradients of x and weight, made while a chunk's logits are at hand.
at::Tensor linear_loss(const at::Tensor& x, const at::Tensor& weight, const RowLosses& row_losses_,
                       const LinearLossOptions& options);

}  // namespace rev::nn
