// LayerNorm and RMSNorm over the last dimension, their gradients, and updates of states that take
// the norm of the new state in the same pass.
//
// Everything is computed in float32, whatever is read and written: mean and variance in two passes,
// rstd = 1 / sqrt(variance + eps), a root and a division in that order. All sums have a fixed
// order: the bits depend neither on the number of threads nor, but for NaN (Note [Same bits],
// dtype.h), on the device.
#pragma once

#include <ATen/core/Tensor.h>
#include <cstdint>
#include <optional>

#include "rev/kernels/grid.h"

namespace rev::kernels {

/// A norm's result and what its gradient needs besides x.
struct Normed {
  at::Tensor y;     ///< [..,C], the norm
  at::Tensor mean;  ///< [N] float32; undefined for RMSNorm
  at::Tensor rstd;  ///< [N] float32
};

/// y = (x - mean) rstd weight + bias, over rows of C elements (Ba et al., arXiv 1607.06450, eq 4).
///
/// x: [..,C] float32 or bfloat16; weight, bias: [C] float32, bias may be undefined: none. y: x's
/// shape and a dtype of the caller's choice, float32 or bfloat16. N is the number of rows. Throws
/// c10::Error where shapes, dtypes or devices do not fit.
Normed layer_norm(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, double eps,
                  at::ScalarType dtype);

/// y = x rstd weight, with the mean square in the variance's place (Zhang and Sennrich, arXiv
/// 1910.07467, eq 4). As `layer_norm`.
Normed rms_norm(const at::Tensor& x, const at::Tensor& weight, double eps, at::ScalarType dtype);

/// What a norm's backward is to compute.
struct NormGradientOptions {
  bool x = true;
  bool weight = true;
  bool bias = true;
  /// Where defined, x's shape and dtype, contiguous: x's gradient is added to it in place, and it
  /// is what comes back as the gradient of x. It may lie over nothing that the backward reads.
  at::Tensor residual;
};

/// Gradients of a norm; undefined where they were not asked for.
struct NormGradients {
  at::Tensor x;       ///< x's shape and dtype
  at::Tensor weight;  ///< [C] float32
  at::Tensor bias;    ///< [C] float32
};

/// The gradients of `layer_norm`, n = (x - mean) rstd and d = grad weight:
///   x: (d - mean(d) - n mean(d n)) rstd    weight: sum grad n over the rows    bias: sum grad
///
/// grad: x's shape, float32 or bfloat16; x, weight: as they were; mean, rstd: as they came back.
/// Sums over the rows go by slices of 32 rows. Throws c10::Error where shapes, dtypes or devices do
/// not fit.
NormGradients layer_norm_backward(const at::Tensor& grad, const at::Tensor& x,
                                  const at::Tensor& weight, const at::Tensor& mean,
                                  const at::Tensor& rstd, const NormGradientOptions& options = {});

/// The gradients of `rms_norm`, as `layer_norm_backward` with mean 0 and without the term mean(d);
/// there is none of a bias, and options.bias is not read.
NormGradients rms_norm_backward(const at::Tensor& grad, const at::Tensor& x,
                                const at::Tensor& weight, const at::Tensor& rstd,
                                const NormGradientOptions& options = {});

enum class NormKind { Layer, Rms };

/// What an update is to make of the new state in the same pass.
struct StateNorm {
  NormKind kind = NormKind::Layer;
  at::Tensor weight;  ///< [C] float32
  at::Tensor bias;    ///< [C] float32, or undefined: none; RMSNorm has none
  double eps = 1e-5;
  at::ScalarType dtype = at::kFloat;  ///< of the norm: float32 or bfloat16
  std::optional<at::ScalarType>
      value;  ///< of the state's value, float32 or bfloat16; none: not made
};

/// The norm of a new state.
struct NormedState {
  at::Tensor value;  ///< [..,C], the state's value (see `decode`) where it was asked for
  Normed norm;       ///< of its float32 value
};

/// y += c f as `update_`, and the norm of the new y: the same bits as `update_`, `decode` and
/// `layer_norm` or `rms_norm` one after the other, without reading y again. With -c it undoes the
/// update and gives the norm of the state before.
///
/// y: contiguous state [..,C], int32 or float32; f, c, bits, probe: as `update_`. Throws c10::Error
/// where shapes, dtypes or devices do not fit.
NormedState update_norm_(at::Tensor& y, const at::Tensor& f, double c, int64_t bits,
                         const StateNorm& norm, const Probe& probe = {});

/// y <- 2 x - y + c f as `reflect_`, and the norm of the new y. As `update_norm_`.
NormedState reflect_norm_(at::Tensor& y, const at::Tensor& x, const at::Tensor& f, double c,
                          int64_t bits, const StateNorm& norm, const Probe& probe = {});

/// y += b x + c f as `blend_`, and the norm of the new y. As `update_norm_`.
NormedState blend_norm_(at::Tensor& y, const at::Tensor& x, double b, const at::Tensor& f, double c,
                        int64_t bits, const StateNorm& norm, const Probe& probe = {});

}  // namespace rev::kernels
