#pragma once

#include <c10/core/Device.h>

namespace rev::kernels {

/// Throws c10::Error where the library's operators cannot run on the device: a CUDA device of a
/// compute capability below 8.0, or any in a build without CUDA.
void check_device(c10::Device device);

}  // namespace rev::kernels
