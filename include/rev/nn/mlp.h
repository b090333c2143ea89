#pragma once

#include <ATen/core/Tensor.h>
#include <cstdint>
#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include "rev/nn/linear.h"

namespace rev::nn {

/// gelu(h + bias) W + c with the tanh form of GELU: what follows a feed-forward layer's first
/// product.
///
/// h [...,F], bias [F] or undefined, weight W [F,out], c [out] or undefined; returns [...,out]. Of
/// h in float32 or bfloat16 a graph keeps h alone: backward makes gelu(h + bias) once more, in the
/// pass that makes h's gradient (kernels::bias_gelu_backward). The same inputs give the same bits,
/// and there is no second derivative (throws c10::Error). In other dtypes it is LibTorch's.
/// Autocast and need_value as in `affine`; without the value gelu is made in backward alone.
at::Tensor gelu_affine(const at::Tensor& h, const at::Tensor& bias, const at::Tensor& weight,
                       const at::Tensor& c = {}, bool need_value = true);

/// GPT-2's feed-forward layer, dropout(gelu(x W_fc + b_fc) W_proj + b_proj) with F = 4 C and the
/// tanh form of GELU; [...,C] -> [...,C]. See `gelu_affine` for what a graph keeps.
///
/// The mask of dropout (in training only) is one draw of the result's shape.
class MlpImpl : public torch::nn::Module {
 public:
  explicit MlpImpl(int64_t channels, double dropout = 0, bool with_bias = true);

  /// need_value: where false the last product is left out, see `affine`.
  at::Tensor forward(const at::Tensor& x, bool need_value = true);

  Linear c_fc{nullptr};
  Linear c_proj{nullptr};

 private:
  double dropout_;
};
TORCH_MODULE(Mlp);

}  // namespace rev::nn
