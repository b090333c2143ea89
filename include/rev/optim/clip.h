#pragma once

#include <ATen/core/Tensor.h>
#include <vector>

#include "rev/kernels/global_norm.h"

namespace rev::optim {

/// Scales all gradients by max_norm / norm where norm, the Euclidean norm of all of them as one
/// vector, exceeds max_norm; returns norm, as it was.
///
/// Parameters without a gradient are passed over. float32 and bfloat16 gradients take
/// kernels::global_norm, which is within 6.6e-7 of the norm for any number of elements; where one
/// has another dtype, squares are summed along rows in its own (at least float32), then over rows
/// and tensors in float64. The same gradients give the same bits. Gradients are changed in place,
/// and left alone where norm is not finite. Throws c10::Error unless max_norm > 0; infinity only
/// measures.
double clip_grad_norm(const std::vector<at::Tensor>& parameters, double max_norm);

/// The norm of all gradients and the factor that limits it to max_norm, left on their device, for
/// AdamW::step(StepTensors), which multiplies gradients by it on the way. As `clip_grad_norm`, for
/// float32 and bfloat16 gradients; not_finite: see kernels::global_norm.
kernels::GlobalNorm grad_norm(const std::vector<at::Tensor>& parameters, double max_norm,
                              const at::Tensor& not_finite = {});

}  // namespace rev::optim
