#pragma once

#include <ATen/core/Tensor.h>
#include <cstdint>
#include <functional>

#include "rev/engine/stack.h"

namespace rev::engine {

/// visit(l, p^(l+1)) for each layer l in turn on the way of the input x [B,T,C]: what the stack's
/// result would be if it ended there, [B,T,C], floating point. (Two stacks of the same fields are
/// compared layer by layer so.) No graph is recorded, nothing is kept, and the fields' buffers move
/// as in a forward.
void trajectory(const Stack& stack, const at::Tensor& x,
                const std::function<void(int64_t l, const at::Tensor& p)>& visit);

}  // namespace rev::engine
