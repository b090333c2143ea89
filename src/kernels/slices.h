// The second stage of sums over rows (cuda/slices_math.h) on the CPU.
#pragma once

#include <cstdint>

namespace rev::kernels {

/// to[j] = the sum over slices of parts [slices, n] at j.
void add_slices(float* to, const float* parts, int64_t slices, int64_t n);

}  // namespace rev::kernels
