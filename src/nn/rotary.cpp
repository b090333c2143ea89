#include "rev/nn/rotary.h"

#include <ATen/OpMathType.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/outer.h>
#include <ATen/ops/pow.h>
#include <c10/util/Exception.h>
#include <cmath>
#include <torch/csrc/autograd/custom_function.h>
#include <vector>

namespace rev::nn {

namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Its transpose turns back, so that the gradient is turned the other way.
struct Rotate : torch::autograd::Function<Rotate> {
  static Tensor forward(AutogradContext* ctx, const Tensor& x, const Tensor& cos,
                        const Tensor& sin) {
    ctx->save_for_backward({cos, sin});
    const std::vector<Tensor> halves = x.to(cos.scalar_type()).chunk(2, -1);
    const Tensor &a = halves[0], &b = halves[1];
    return at::cat({a * cos - b * sin, b * cos + a * sin}, -1).to(x.scalar_type());
  }

  static variable_list backward(AutogradContext* ctx, variable_list grads) {
    const variable_list saved = ctx->get_saved_variables();
    return {Rotate::apply(grads[0], saved[0], -saved[1]), Tensor(), Tensor()};
  }
};

}  // namespace

void check(const RotaryOptions& options) {
  TORCH_CHECK(options.width > 0 && options.width % 2 == 0, "rotary: the width of a head is ",
              options.width, ", expected an even number");
  TORCH_CHECK(options.theta > 0 && std::isfinite(options.theta), "rotary: theta is ", options.theta,
              ", expected a positive number");
  TORCH_CHECK(
      options.scaling == "default" || options.scaling == "linear" || options.scaling == "llama3",
      "rotary: unknown scaling \"", options.scaling, "\", expected default, linear or llama3");
  TORCH_CHECK(options.factor > 0 && std::isfinite(options.factor), "rotary: factor is ",
              options.factor, ", expected a positive number");
  TORCH_CHECK(options.low_freq_factor < options.high_freq_factor, "rotary: low_freq_factor is ",
              options.low_freq_factor, ", expected less than high_freq_factor, ",
              options.high_freq_factor);
  TORCH_CHECK(options.original_seq > 0, "rotary: original_seq is ", options.original_seq,
              ", expected at least 1 token");
}

Tensor rotary_frequencies(const RotaryOptions& options) {
  check(options);
  const Tensor power =
      at::arange(0, options.width, 2, at::kFloat) / static_cast<double>(options.width);
  const Tensor w = at::pow(options.theta, power).reciprocal();
  if (options.scaling == "default") return w;
  if (options.scaling == "linear") return w / options.factor;
  const Tensor turns = w * (static_cast<double>(options.original_seq) / (2 * M_PI));
  const Tensor s =
      ((turns - options.low_freq_factor) / (options.high_freq_factor - options.low_freq_factor))
          .clamp(0, 1);
  return w * (s + (1 - s) / options.factor);
}

Tensor rotate(const Tensor& x, const Tensor& frequencies, int64_t first) {
  TORCH_CHECK(x.dim() == 4 && x.size(3) == 2 * frequencies.numel(), "rotate: x is ", x.sizes(),
              ", expected [B,H,T,D] with D twice the ", frequencies.numel(), " frequencies");
  const auto dtype = at::toOpMathType(x.scalar_type());
  const Tensor places = at::arange(first, first + x.size(2), frequencies.options().dtype(dtype));
  const Tensor angles = at::outer(places, frequencies.to(dtype));  // [T,D/2]
  return Rotate::apply(x, angles.cos(), angles.sin());
}

}  // namespace rev::nn
