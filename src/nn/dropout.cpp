#include "rev/nn/dropout.h"

#include <torch/csrc/autograd/custom_function.h>

#include "rev/kernels/dropout.h"
#include "rev/kernels/dtype.h"

namespace rev::nn {
namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Linear, with a symmetric matrix: its backward is itself, and so on.
struct Dropout : torch::autograd::Function<Dropout> {
  static Tensor forward(AutogradContext* ctx, const Tensor& x, double p,
                        const kernels::Philox& from) {
    ctx->saved_data["p"] = p;
    ctx->saved_data["seed"] = from.seed;
    ctx->saved_data["offset"] = from.offset;
    ctx->saved_data["offset_at"] = reinterpret_cast<int64_t>(from.offset_at);
    return kernels::philox_dropout(x, p, from);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const auto number = [&](const char* name) { return ctx->saved_data[name].toInt(); };
    const kernels::Philox from{number("seed"), number("offset"),
                               reinterpret_cast<const int64_t*>(number("offset_at"))};
    return {Dropout::apply(grads[0], ctx->saved_data["p"].toDouble(), from), {}, {}};
  }
};

}  // namespace

Tensor dropout_mask(at::IntArrayRef sizes, double p, c10::Device device) {
  TORCH_CHECK(p >= 0 && p < 1, "dropout: the probability is ", p, ", expected 0 <= p < 1");
  return kernels::philox_mask(sizes, p, kernels::draw_philox(device), device);
}

Tensor apply_dropout(const Tensor& x, const Tensor& mask, double p) {
  return x.mul(mask).mul(1 / (1 - p));
}

Tensor dropout(const Tensor& x, double p) {
  TORCH_CHECK(p >= 0 && p < 1, "dropout: the probability is ", p, ", expected 0 <= p < 1");
  if (p == 0) return x;
  if (kernels::is_kernel_float(x.scalar_type())) {
    return Dropout::apply(x, p, kernels::draw_philox(x.device()));
  }
  return apply_dropout(x, dropout_mask(x.sizes(), p, x.device()), p);
}

}  // namespace rev::nn
