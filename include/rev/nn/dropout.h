// Dropout in one step, or in two, draw and apply, so that one token's part of a mask can be taken
// from the whole. Every mask is one draw from the default generator, of a stream of numbers
// (kernels/dropout.h): under the same generator state the same calls in the same order give the
// same masks, whatever the dtype of what they are applied to.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

namespace rev::nn {

/// What dropout keeps: bool [sizes], true with probability 1 - p, from the device's default
/// generator. Throws c10::Error unless 0 <= p < 1.
at::Tensor dropout_mask(at::IntArrayRef sizes, double p, c10::Device device);

/// x * mask / (1 - p), in x's dtype; mask must broadcast to x.
at::Tensor apply_dropout(const at::Tensor& x, const at::Tensor& mask, double p);

/// Both; x itself, and nothing drawn, where p is 0. float32 and bfloat16: no mask is made, the
/// graph keeps the stream alone, and backward draws it again.
at::Tensor dropout(const at::Tensor& x, double p);

}  // namespace rev::nn
