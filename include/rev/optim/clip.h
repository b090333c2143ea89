#pragma once

#include <ATen/core/Tensor.h>
#include <vector>

namespace rev::optim {

/// Scales all gradients by max_norm / norm where norm, the Euclidean norm of all of them as one
/// vector, exceeds max_norm; returns norm, as it was.
///
/// Parameters without a gradient are passed over. Squares are summed along rows in float32
/// (LibTorch's float32 norm of a whole matrix is off by 3e-3 at 4e7 elements), then over rows and
/// tensors in float64, in a fixed order: the same gradients give the same bits. Gradients are
/// changed in place, and left alone where norm is not finite. Throws c10::Error unless max_norm >
/// 0; infinity only measures.
double clip_grad_norm(const std::vector<at::Tensor>& parameters, double max_norm);

}  // namespace rev::optim
