// The linear map in the layout of GPT-2's checkpoints, y = x W + b with W [in,out], and in that of
// most others, [out,in]; and both for a caller that needs its gradients but not its value: none of
// the three gradients
//
//   dx = g W^T      dW = x^T g      db = sum over rows of g
//
// reads y, so that a layer evaluated again for its gradients may leave out its last product.
#pragma once

#include <ATen/core/Tensor.h>
#include <cstdint>
#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

namespace rev::nn {

/// x W + b (with a weight [out,in] it is `project`).
///
/// x [...,in], weight [in,out], bias [out] or undefined, of one dtype; returns [...,out]. Under
/// autocast the operands are cast as those of `at::addmm` are, to its dtype, which is the result's.
/// need_value: where false the result is unfilled memory of the right shape and dtype; gradients
/// are the same bits either way. Throws c10::Error where shapes do not fit.
at::Tensor affine(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias = {},
                  bool need_value = true);

/// x W^T + b: `affine` with a weight in LibTorch's own layout, [out,in], as is its gradient.
at::Tensor project(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias = {},
                   bool need_value = true);

/// A linear map with its parameters: weight [in,out] ~ N(0, std^2) from the default generator, bias
/// [out] of zeros, or none.
class LinearImpl : public torch::nn::Module {
 public:
  LinearImpl(int64_t in, int64_t out, bool with_bias = true, double std = 0.02);

  at::Tensor forward(const at::Tensor& x, bool need_value = true);

  at::Tensor weight;
  at::Tensor bias;  ///< undefined without one
};
TORCH_MODULE(Linear);

/// `Linear` with its weight as [out,in].
class ProjectionImpl : public torch::nn::Module {
 public:
  ProjectionImpl(int64_t in, int64_t out, bool with_bias = true, double std = 0.02);

  at::Tensor forward(const at::Tensor& x, bool need_value = true);

  at::Tensor weight;
  at::Tensor bias;  ///< undefined without one
};
TORCH_MODULE(Projection);

}  // namespace rev::nn
