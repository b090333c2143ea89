#pragma once

#include <ATen/core/Tensor.h>
#include <cstdint>
#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

namespace rev::nn {

/// (x - mean) / sqrt(variance + eps) * weight + bias over the last dimension, [...,C] -> [...,C].
///
/// weight starts as ones, bias as zeros, or there is none. Mean and variance are taken in float32
/// (in float64 for float64).
class LayerNormImpl : public torch::nn::Module {
 public:
  explicit LayerNormImpl(int64_t channels, bool with_bias = true, double eps = 1e-5);

  at::Tensor forward(const at::Tensor& x);

  at::Tensor weight;
  at::Tensor bias;  ///< undefined without one

 private:
  double eps_;
};
TORCH_MODULE(LayerNorm);

}  // namespace rev::nn
