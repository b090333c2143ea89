// Activations with their biases, and their gradients, each in one pass (a second, small one adds
// the biases' gradients over rows).
//
//   gelu(x) = x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))       GPT-2's form of GELU
//   swiglu(gate, up) = silu(gate) up,  silu(x) = x / (1 + e^-x)   arXiv 2002.05202
//
// Numbers are float32 or bfloat16, all of one dtype; what is between them is float32, rounded once
// to the result's dtype. Biases [F] are float32 or of that dtype. The same bits on every device
// (but for NaN: Note [Same bits], dtype.h) and with any number of threads. All functions throw
// c10::Error where shapes, dtypes or devices do not fit.
#pragma once

#include <ATen/core/Tensor.h>

namespace rev::kernels {

/// gelu(x + bias); x [..,F], bias [F] or undefined: none. Returns a contiguous tensor of x's dtype.
at::Tensor bias_gelu(const at::Tensor& x, const at::Tensor& bias = {});

/// What is asked of a backward beside the gradients of what the function takes.
struct ActivationWants {
  bool bias = false;   ///< gradients of the biases, summed over rows before they are rounded
  bool value = false;  ///< the function's value once more, of which a product's gradient is made
  bool reuse = false;  ///< that dy's memory, contiguous, becomes x's gradient (GELU alone)
};

struct GeluGradients {
  at::Tensor x;
  at::Tensor bias;   ///< of the bias' dtype, float32 without one; undefined unless wanted
  at::Tensor value;  ///< undefined unless wanted
};

/// The gradients of gelu(x + bias) from dy; dy and x [..,F], bias as there.
GeluGradients bias_gelu_backward(const at::Tensor& dy, const at::Tensor& x,
                                 const at::Tensor& bias = {}, const ActivationWants& wants = {});

/// silu(gate + gate_bias) (up + up_bias); gate and up [..,F], biases [F] or undefined: none.
///
/// gate and up may be the halves of one [..,2F] tensor, as of one product: they are read where they
/// are. Returns a contiguous tensor of their dtype.
at::Tensor swiglu(const at::Tensor& gate, const at::Tensor& up, const at::Tensor& gate_bias = {},
                  const at::Tensor& up_bias = {});

struct SwigluGradients {
  at::Tensor both;                ///< [..,2F] contiguous: gate's gradient, then up's
  at::Tensor gate;                ///< its first half
  at::Tensor up;                  ///< its second half
  at::Tensor gate_bias, up_bias;  ///< of the biases' dtypes; undefined unless wanted
  at::Tensor value;               ///< undefined unless wanted
};

/// The gradients of `swiglu` from dy [..,F].
SwigluGradients swiglu_backward(const at::Tensor& dy, const at::Tensor& gate, const at::Tensor& up,
                                const at::Tensor& gate_bias = {}, const at::Tensor& up_bias = {},
                                const ActivationWants& wants = {});

}  // namespace rev::kernels
