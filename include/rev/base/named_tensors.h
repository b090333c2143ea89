#pragma once

#include <ATen/core/Tensor.h>
#include <string>
#include <utility>
#include <vector>

namespace rev::base {

/// Tensors with their names, in the order in which their owner keeps them.
using NamedTensors = std::vector<std::pair<std::string, at::Tensor>>;

/// Copies the values of `from` into the tensors of the same names in `to`, whatever their order,
/// dtypes and devices. No graph is recorded.
///
/// Throws c10::Error, before anything is changed, with one sentence that begins with `what` and
/// names every tensor that is missing from `from`, that `to` does not have, or that has another
/// shape.
void copy_named(const NamedTensors& to, const NamedTensors& from, const std::string& what);

}  // namespace rev::base
