#pragma once

#include <ATen/core/Tensor.h>
#include <cstdint>
#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

namespace rev::nn {

/// weight[index]: weight [V,C], index int64 [..] -> [..,C].
///
/// float32 and bfloat16 weights get their gradient from kernels::embedding_backward: the same bits
/// on every device, and no second derivative (throws c10::Error). Others are LibTorch's.
at::Tensor take_rows(const at::Tensor& weight, const at::Tensor& index);

/// A table of n vectors of width C, weight [n,C] ~ N(0, std^2) from the default generator.
class EmbeddingImpl : public torch::nn::Module {
 public:
  EmbeddingImpl(int64_t n, int64_t channels, double std = 0.02);

  /// weight[index], int64 [...] -> [...,C]; see `take_rows`.
  at::Tensor forward(const at::Tensor& index);

  at::Tensor weight;
};
TORCH_MODULE(Embedding);

/// dropout(wte[tokens] + wpe[0..T)): tokens int64 [B,T], token table wte [V,C], learned positions
/// wpe [n,C] -> [B,T,C]. Within a `KeyValueCache::Scope` positions go on from those kept. Throws
/// c10::Error where T positions are more than are left of n.
at::Tensor embed(const at::Tensor& tokens, const at::Tensor& wte, const at::Tensor& wpe,
                 double dropout = 0);

}  // namespace rev::nn
