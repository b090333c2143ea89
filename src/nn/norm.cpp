#include "rev/nn/norm.h"

#include <ATen/ops/layer_norm.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>

namespace rev::nn {

LayerNormImpl::LayerNormImpl(int64_t channels, bool with_bias, double eps) : eps_(eps) {
  weight = register_parameter("weight", at::ones({channels}));
  if (with_bias) bias = register_parameter("bias", at::zeros({channels}));
}

at::Tensor LayerNormImpl::forward(const at::Tensor& x) {
  return at::layer_norm(x, weight.sizes(), weight, bias, eps_);
}

}  // namespace rev::nn
