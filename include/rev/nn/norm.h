#pragma once

#include <ATen/core/Tensor.h>
#include <cstdint>
#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

namespace rev::nn {

/// (x - mean) / sqrt(variance + eps) * weight + bias over the last dimension, [...,C] -> [...,C].
///
/// weight starts as ones, bias as zeros, or there is none. The result has x's dtype. Of float32 and
/// bfloat16 x and float32 weights it is `kernels::layer_norm`: computed in float32, a second
/// derivative is refused. Other dtypes are left to ATen, float64 among them.
class LayerNormImpl : public torch::nn::Module {
 public:
  explicit LayerNormImpl(int64_t channels, bool with_bias = true, double eps = 1e-5);

  at::Tensor forward(const at::Tensor& x);

  /// forward(x) for products alone: where autocast is on and would cast it to bfloat16, it is
  /// written in bfloat16 in the first place. A product of it has the same bits, and so have the
  /// gradients; what else would read it reads less precise numbers.
  at::Tensor operand(const at::Tensor& x);

  at::Tensor weight;
  at::Tensor bias;  ///< undefined without one

 private:
  at::Tensor norm(const at::Tensor& x, at::ScalarType dtype);

  double eps_;
};
TORCH_MODULE(LayerNorm);

/// x / sqrt(mean(x^2) + eps) * weight over the last dimension, [...,C] -> [...,C] (Zhang and
/// Sennrich, arXiv 1910.07467). weight starts as ones; else as LayerNorm, by `kernels::rms_norm`.
class RMSNormImpl : public torch::nn::Module {
 public:
  explicit RMSNormImpl(int64_t channels, double eps = 1e-6);

  at::Tensor forward(const at::Tensor& x);

  /// As LayerNorm's.
  at::Tensor operand(const at::Tensor& x);

  at::Tensor weight;

 private:
  at::Tensor norm(const at::Tensor& x, at::ScalarType dtype);

  double eps_;
};
TORCH_MODULE(RMSNorm);

}  // namespace rev::nn
