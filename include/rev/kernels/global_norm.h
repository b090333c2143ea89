#pragma once

#include <ATen/core/Tensor.h>
#include <limits>

namespace rev::kernels {

/// A norm and what to multiply by to limit it; float32 scalars on the tensors' device.
struct GlobalNorm {
  at::Tensor norm;    ///< the Euclidean norm
  at::Tensor factor;  ///< min(1, most / norm); 1 where norm is not finite
};

/// The Euclidean norm of all tensors as one vector, left on their device.
///
/// tensors: float32 or bfloat16, any shapes, on one device. Squares are summed in float32 over
/// slices of 16384 elements, then over slices with what roundings lose beside: the norm is within
/// 6.6e-7 of itself for any number of elements, where no square leaves float32's range, and has the
/// same bits on every device, but for NaN (Note [Same bits], dtype.h), and with any number of
/// threads. not_finite: int32, one number, set to
/// 1 where the norm is not finite and else left alone; undefined: not asked for. Of no tensors the
/// norm is 0, on the CPU. Throws c10::Error where dtypes or devices do not fit.
GlobalNorm global_norm(at::TensorList tensors,
                       double most = std::numeric_limits<double>::infinity(),
                       const at::Tensor& not_finite = {});

}  // namespace rev::kernels
