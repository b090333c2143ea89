#pragma once

#include <c10/core/Device.h>

namespace rev::train {

/// Most tensor memory of a device at one time since the last reset, in MiB: on the CPU as
/// `base::memory_stats` counts it (after `base::count_memory`), elsewhere as LibTorch's allocator
/// of that device does.
double peak_mib(c10::Device device);

/// Sets the peak to what is alive now.
void reset_peak(c10::Device device);

}  // namespace rev::train
