#pragma once

#include <ATen/core/Tensor.h>
#include <cstdint>
#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include "rev/nn/linear.h"

namespace rev::nn {

/// (silu(gate + gate_bias) (up + up_bias)) W^T + c: what follows the first products of a gated
/// feed-forward layer (Shazeer, arXiv 2002.05202).
///
/// gate and up [...,F], their biases [F] or undefined, weight W [out,F], c [out] or undefined;
/// returns [...,out]. Of gate and up in float32 or bfloat16 a graph keeps these two alone: backward
/// makes the product once more, in the pass that makes their gradients (kernels::swiglu_backward).
/// Dtypes, second derivatives, autocast and need_value as in `gelu_affine`.
at::Tensor swiglu_linear(const at::Tensor& gate, const at::Tensor& up, const at::Tensor& weight,
                         const at::Tensor& gate_bias = {}, const at::Tensor& up_bias = {},
                         const at::Tensor& c = {}, bool need_value = true);

/// Llama's feed-forward layer, down(silu(gate(x)) up(x)), [...,C] -> [...,C]; gate_proj and up_proj
/// [F,C], down_proj [C,F], and their biases.
class GatedMlpImpl : public torch::nn::Module {
 public:
  GatedMlpImpl(int64_t channels, int64_t hidden, bool with_bias = false);

  /// need_value: where false the last product is left out, see `affine`.
  at::Tensor forward(const at::Tensor& x, bool need_value = true);

  Projection gate_proj{nullptr};
  Projection up_proj{nullptr};
  Projection down_proj{nullptr};
};
TORCH_MODULE(GatedMlp);

}  // namespace rev::nn
