// Launchers of the norms' kernels (norm.cu); the arithmetic is norm_math.h's, so the bits are those
// of the CPU path. Pointers, streams and failures as in grid.h.
#pragma once

#include <cstdint>

#include "cuda/bfloat16.h"
#include "cuda/grid.h"
#include "cuda/stream.h"

namespace rev::cuda {

/// A norm over rows of C numbers.
struct Norm {
  const float* weight;  ///< [C]
  const float* bias;    ///< [C]; null: none
  float eps;
  bool centred;  ///< LayerNorm, which takes the mean off; else RMSNorm
};

/// Numbers that a kernel writes, in either precision or both; null where they are not wanted.
struct Floats {
  float* as_float = nullptr;
  BFloat16* as_bfloat16 = nullptr;
};

/// What a norm writes of each row, [rows]; null where it is not wanted.
struct Moments {
  float* mean = nullptr;
  float* rstd = nullptr;
};

/// y = norm(x), both [rows, width]. X: float or BFloat16.
template <class X>
void launch_norm(const Floats& y, const Moments& moments, const X* x, const Norm& norm, Rows size,
                 Stream stream);

/// Where a norm's gradients go; null where they are not wanted.
template <class X>
struct NormGradients {
  X* x = nullptr;               ///< [rows, width]
  const X* residual = nullptr;  ///< [rows, width], added to x's gradient where not null; may be x
  float* weight = nullptr;      ///< [width]
  float* bias = nullptr;        ///< [width]
  float* scratch = nullptr;     ///< [2, slices_of(rows), width]; written where either is wanted
};

/// What `launch_norm` read and wrote: x [rows, width], weight [width], mean (null: RMSNorm) and
/// rstd [rows].
template <class X>
struct NormInputs {
  const X* x;
  const float* weight;
  const float* mean;
  const float* rstd;
};

/// The gradients from dy [rows, width]; they may lie over neither dy nor the inputs. Two kernels,
/// of which the second adds up what the first has left in `scratch`. X, G: float or BFloat16.
template <class X, class G>
void launch_norm_backward(const NormGradients<X>& gradients, const G* dy,
                          const NormInputs<X>& inputs, Rows size, Stream stream);

}  // namespace rev::cuda
