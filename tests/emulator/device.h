// The room `kernels` on the emulator: its operators run the kernels of cuda/ on CPU tensors.
#pragma once

namespace rev::emulator {

/// Whether they do, which is so until this is called, or take the CPU path.
void run_kernels(bool on);

}  // namespace rev::emulator
