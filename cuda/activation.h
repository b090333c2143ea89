// Launchers of the activations (activation.cu); the arithmetic is activation_math.h's, so the bits
// are those of the CPU path.
//
// All pointers are device pointers, rows are contiguous, all work is queued on `stream`. Nothing is
// checked here: the callers in src/kernels did. Throws std::runtime_error where a launch fails. T:
// float or BFloat16.
#pragma once

#include <cstdint>

#include "cuda/bfloat16.h"
#include "cuda/grid.h"
#include "cuda/stream.h"

namespace rev::cuda {

/// y = gelu(x + bias), x and y [rows, width] contiguous, bias [width] or null.
template <class T>
void launch_gelu(T* y, const T* x, const float* bias, Rows size, Stream stream);

/// Where the gradients of gelu(x + bias) go.
template <class T>
struct GeluGradients {
  T* x;         ///< [rows, width]; may be dy
  T* value;     ///< [rows, width], gelu(x + bias) once more; null: not wanted
  float* sums;  ///< [slices_of(rows), width], for `launch_add_slices`; null: not wanted
};

/// The gradients from dy; all contiguous.
template <class T>
void launch_gelu_backward(const GeluGradients<T>& to, const T* dy, const T* x, const float* bias,
                          Rows size, Stream stream);

/// What SwiGLU takes: rows of gate and up, each `stride` elements after the one before, and biases
/// [width] or null.
template <class T>
struct SwigluInputs {
  const T* gate;
  const T* up;
  int64_t stride;
  const float* gate_bias;
  const float* up_bias;
};

/// y = silu(gate + gate_bias) (up + up_bias), y [rows, width] contiguous.
template <class T>
void launch_swiglu(T* y, const SwigluInputs<T>& inputs, Rows size, Stream stream);

/// Where the gradients of SwiGLU go.
template <class T>
struct SwigluGradients {
  T* gate;
  T* up;
  int64_t stride;    ///< of gate's rows and up's
  T* value;          ///< [rows, width], the value once more; null: not wanted
  float* gate_sums;  ///< [slices_of(rows), width], for `launch_add_slices`; null: not wanted
  float* up_sums;    ///< as gate_sums
};

/// The gradients from dy, [rows, width] contiguous.
template <class T>
void launch_swiglu_backward(const SwigluGradients<T>& to, const T* dy,
                            const SwigluInputs<T>& inputs, Rows size, Stream stream);

/// dbias [width] = the sum over slices of sums [slices, width].
void launch_add_slices(float* dbias, const float* sums, int64_t slices, int64_t width,
                       Stream stream);

}  // namespace rev::cuda
