// GELU (its tanh form) and SwiGLU, number by number: one source for the CPU path and the kernels,
// so that both give the same bits.
//
//   gelu(x) = x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) = x s(u),  u = x (a + b x^2)
//   silu(x) = x s(x)
// with s the sigmoid, a = 2 sqrt(2/pi) and b = 0.044715 a. Of s(u) and 1 - s(u) both are made of
// e^-|u|, without a difference, so that neither gelu far below 0 nor the derivatives far above it
// lose digits. The derivatives are
//   gelu'(x) = s + x s (1 - s) (a + 3 b x^2),   silu'(x) = s + x s (1 - s)
//
// Sums over rows, for the gradients of biases, are those of slices_math.h; their terms are not
// rounded to the gradient's dtype.
#pragma once

#include <cmath>
#include <cstdint>

#include "cuda/exp_math.h"
#include "cuda/host_device.h"

namespace rev::cuda {

/// The sigmoid of u, and of -u.
struct Sigmoids {
  float of;
  float of_minus;
};

REV_HOST_DEVICE Sigmoids sigmoids(float u) {
  const float z = exp(-fabsf(u));
  const float larger = 1.0f / (1.0f + z), smaller = z * larger;
  return {u < 0.0f ? smaller : larger, u < 0.0f ? larger : smaller};
}

/// A function's value and its derivative.
struct Activation {
  float value;
  float slope;
};

REV_HOST_DEVICE Activation gelu(float x) {
  constexpr float a = 1.5957691216f, b = 0.0713548162726f;
  const float square = x * x;
  const Sigmoids s = sigmoids(x * fmaf(b, square, a));
  const float value = x * s.of;
  return {value, fmaf(value * s.of_minus, fmaf(3.0f * b, square, a), s.of)};
}

REV_HOST_DEVICE Activation silu(float x) {
  const Sigmoids s = sigmoids(x);
  const float value = x * s.of;
  return {value, fmaf(value, s.of_minus, s.of)};
}

/// silu(gate) up, and the gradients of gate and up from dy.
struct Swiglu {
  float value;
  float gate;
  float up;
};

REV_HOST_DEVICE float swiglu(float gate, float up) { return silu(gate).value * up; }

REV_HOST_DEVICE Swiglu swiglu_backward(float dy, float gate, float up) {
  const Activation f = silu(gate);
  return {f.value * up, dy * up * f.slope, dy * f.value};
}

}  // namespace rev::cuda
