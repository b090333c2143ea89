#pragma once

#include <ATen/core/Tensor.h>
#include <functional>
#include <vector>

#include "rev/engine/field.h"

namespace rev::engine {

/// Evaluates fn with a graph of its own and returns its value and pullback.
///
/// fn sees detached inputs. While it runs, the gradient edges of `parameters` lead into this graph
/// and not to the tensors' own accumulators, so that gradients are delivered here alone: neither
/// `.grad` nor hooks of a parameter are touched until the caller returns them to autograd, once.
/// Two threads must therefore not record over the same parameters at the same time.
Linearised record(const std::function<at::Tensor(at::TensorList)>& fn, at::TensorList inputs,
                  const std::vector<at::Tensor>& parameters);

}  // namespace rev::engine
