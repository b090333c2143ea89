#include "rev/nn/embedding.h"

#include <ATen/ops/embedding.h>
#include <ATen/ops/normal.h>

#include "rev/nn/dropout.h"

namespace rev::nn {

EmbeddingImpl::EmbeddingImpl(int64_t n, int64_t channels, double std) {
  weight = register_parameter("weight", at::normal(0.0, std, {n, channels}));
}

at::Tensor EmbeddingImpl::forward(const at::Tensor& index) { return at::embedding(weight, index); }

at::Tensor embed(const at::Tensor& tokens, const at::Tensor& wte, const at::Tensor& wpe,
                 double dropout) {
  TORCH_CHECK(tokens.dim() == 2 && tokens.size(1) <= wpe.size(0), "embed: tokens are ",
              tokens.sizes(), ", expected [B,T] with T at most ", wpe.size(0));
  return nn::dropout(at::embedding(wte, tokens) + wpe.narrow(0, 0, tokens.size(1)), dropout);
}

}  // namespace rev::nn
