#include "rev/nn/dropout.h"

#include <ATen/ops/empty.h>

namespace rev::nn {

at::Tensor dropout_mask(at::IntArrayRef sizes, double p, c10::Device device) {
  TORCH_CHECK(p >= 0 && p < 1, "dropout: the probability is ", p, ", expected 0 <= p < 1");
  return at::empty(sizes, at::TensorOptions(device).dtype(at::kBool)).bernoulli_(1 - p);
}

at::Tensor apply_dropout(const at::Tensor& x, const at::Tensor& mask, double p) {
  return x.mul(mask).mul(1 / (1 - p));
}

at::Tensor dropout(const at::Tensor& x, double p) {
  return p == 0 ? x : apply_dropout(x, dropout_mask(x.sizes(), p, x.device()), p);
}

}  // namespace rev::nn
