#pragma once

#include <ATen/core/Tensor.h>
#include <functional>
#include <vector>

namespace rev::engine {

/// fn(inputs), whose activations are not kept: backward evaluates fn once more, under the same
/// random numbers and autocast, and differentiates that.
///
/// inputs: any tensors; gradients reach those that require them. parameters: every other tensor
/// that fn reads and gradients are wanted for (they may be frozen; undefined ones are passed over).
/// Where fn reads one that is not listed and requires a gradient c10::Error is thrown, in backward,
/// or at once where no gradient is wanted of what is listed. Hooks, accumulation, `autograd::grad`
/// and several forwards before a backward work as for any node; a second derivative is refused. fn
/// is kept until the graph is freed and must return the same bits for the same inputs (which
/// nothing here can check).
///
/// buffers: tensors that fn updates and that its value does not depend on, such as running
/// statistics; what backward's evaluation writes into them is undone.
at::Tensor checkpoint(std::function<at::Tensor(at::TensorList)> fn,
                      const std::vector<at::Tensor>& inputs,
                      const std::vector<at::Tensor>& parameters,
                      const std::vector<at::Tensor>& buffers = {});

}  // namespace rev::engine
