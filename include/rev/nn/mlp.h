#pragma once

#include <ATen/core/Tensor.h>
#include <cstdint>
#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include "rev/nn/linear.h"

namespace rev::nn {

/// GPT-2's feed-forward layer, dropout(gelu(x W_fc + b_fc) W_proj + b_proj) with F = 4 C and the
/// tanh form of GELU; [...,C] -> [...,C].
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
