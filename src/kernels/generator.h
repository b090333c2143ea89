// The default generator of a CUDA device, which only a build with CUDA knows.
#pragma once

#include <c10/core/Device.h>

#include "rev/kernels/dropout.h"

namespace rev::kernels {

/// As `draw_philox`, for a CUDA device.
Philox draw_on_cuda(c10::Device device);

}  // namespace rev::kernels
