#pragma once

#include <c10/core/Device.h>

namespace rev::base {

/// Whether work queued on the device's current stream is being captured in a CUDA graph, so that
/// nothing may wait for it and no generator of the device be asked for its state.
bool is_capturing(c10::Device device);

}  // namespace rev::base
