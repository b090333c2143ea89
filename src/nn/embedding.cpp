#include "rev/nn/embedding.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/normal.h>
#include <torch/csrc/autograd/custom_function.h>

#include "rev/kernels/dtype.h"
#include "rev/kernels/embedding.h"
#include "rev/nn/dropout.h"
#include "rev/nn/key_value_cache.h"

namespace rev::nn {

namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

struct TakeRows : torch::autograd::Function<TakeRows> {
  static Tensor forward(AutogradContext* ctx, const Tensor& weight, const Tensor& index) {
    ctx->save_for_backward({index});
    ctx->saved_data["rows"] = weight.size(0);
    ctx->saved_data["dtype"] = weight.scalar_type();
    return at::embedding(weight, index);
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    TORCH_CHECK(!at::GradMode::is_enabled(), "take_rows: a second derivative is not supported");
    return {kernels::embedding_backward(grads[0], ctx->get_saved_variables()[0],
                                        ctx->saved_data["rows"].toInt(),
                                        ctx->saved_data["dtype"].toScalarType()),
            Tensor()};
  }
};

}  // namespace

at::Tensor take_rows(const at::Tensor& weight, const at::Tensor& index) {
  const bool by_kernel = kernels::is_kernel_float(weight.scalar_type());
  return by_kernel ? TakeRows::apply(weight, index) : at::embedding(weight, index);
}

EmbeddingImpl::EmbeddingImpl(int64_t n, int64_t channels, double std) {
  weight = register_parameter("weight", at::normal(0.0, std, {n, channels}));
}

at::Tensor EmbeddingImpl::forward(const at::Tensor& index) { return take_rows(weight, index); }

at::Tensor embed(const at::Tensor& tokens, const at::Tensor& wte, const at::Tensor& wpe,
                 double dropout) {
  const int64_t first = KeyValueCache::position(), left = wpe.size(0) - first;
  TORCH_CHECK(tokens.dim() == 2 && tokens.size(1) <= left, "embed: tokens are ", tokens.sizes(),
              ", expected [B,T] with T at most ", left);
  return nn::dropout(take_rows(wte, tokens) + wpe.narrow(0, first, tokens.size(1)), dropout);
}

}  // namespace rev::nn
