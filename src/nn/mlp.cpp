#include "rev/nn/mlp.h"

#include <ATen/ops/gelu.h>

#include "rev/nn/dropout.h"

namespace rev::nn {

MlpImpl::MlpImpl(int64_t channels, double dropout, bool with_bias) : dropout_(dropout) {
  c_fc = register_module("c_fc", Linear(channels, 4 * channels, with_bias));
  c_proj = register_module("c_proj", Linear(4 * channels, channels, with_bias));
}

at::Tensor MlpImpl::forward(const at::Tensor& x, bool need_value) {
  const at::Tensor hidden = at::gelu(c_fc->forward(x), "tanh");  // [...,F]
  return dropout(c_proj->forward(hidden, need_value), is_training() ? dropout_ : 0);
}

}  // namespace rev::nn
