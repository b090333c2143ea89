// The room `kernels` on the emulator: its operators run the kernels of cuda/ on CPU tensors.
#pragma once

namespace rev::emulator {

/// Whether they do, which is so until this is called, or take the CPU path.
void run_kernels(bool on);

/// Whether products are those of the library that stands in for cublasLt, or the CPU's, which is so
/// until this is called: the two add in another order, and programs are compared by their bits.
void run_products(bool on);

}  // namespace rev::emulator
