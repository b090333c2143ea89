#pragma once

#include <c10/core/Device.h>
#include <functional>

#include "rev/base/error.h"
#include "rev/engine/stack.h"

namespace rev::train {

/// passes(), the forward and backward passes of an optimizer's step, until no layer refuses to be
/// inverted; returns what it returned, say the mean loss.
///
/// RevFFN inverts its attention by a fixed point. Where backward finds that a layer has left
/// contraction (NotInvertible, Cause::FixedPoint), that layer is checkpointed from then on,
/// `gave_up` is told, the stack's report is dropped, and passes is called again from the same state
/// of the generators on `device`: nothing is lost, and the bits are those of a layer that was
/// checkpointed all along. passes must therefore begin with no gradients (an optimizer's zero_grad)
/// and read the same batches each time. Whatever else it throws is passed on.
double repeat_step(engine::Stack& stack, c10::Device device, const std::function<double()>& passes,
                   const std::function<void(const base::NotInvertible&)>& gave_up = {});

}  // namespace rev::train
