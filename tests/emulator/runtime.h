// The functions of CUDA's runtime that launchers call, in the emulator's form (runtime.cpp).
#pragma once

#include <cstddef>

namespace rev::emulator {

/// Throws Error where a GPU would refuse this much dynamic shared memory to the kernel.
void check_dynamic_shared(const void* kernel, std::size_t bytes);

}  // namespace rev::emulator
