// What stacks and checkpoints share in finding tensors that a function reads and nobody listed.
#pragma once

#include <ATen/core/Tensor.h>
#include <functional>
#include <string>
#include <vector>

#include "rev/engine/field.h"

namespace rev::engine {

/// As the public `linearise`, where `reader` begins the message on a tensor that is not listed.
Linearised linearise(const std::string& reader, const std::function<at::Tensor(at::TensorList)>& fn,
                     at::TensorList inputs, const std::vector<at::Tensor>& parameters);

/// Throws c10::Error beginning with `reader` where `output`, which was evaluated with a graph from
/// inputs and parameters that require no gradient, requires one all the same.
void check_reads_nothing_else(const std::string& reader, const at::Tensor& output);

/// A list of parameters without the undefined ones, such as the bias of a linear map that has none.
std::vector<at::Tensor> defined_of(std::vector<at::Tensor> parameters);

}  // namespace rev::engine
