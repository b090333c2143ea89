// Where the operators of this room are run a second time: their CUDA kernels, on a GPU or emulated.
#pragma once

#include <ATen/core/Tensor.h>
#include <functional>
#include <vector>

namespace rev::kernels {

/// An operator's results from inputs on a device; they are made on the CPU first, for equal bits.
using OnDevice = std::function<std::vector<at::Tensor>(c10::Device)>;

/// Runs it through the kernels on CPU tensors, and another time on the CPU path: set by the program
/// in which kernels are emulated (tests/emulator); null elsewhere.
struct EmulatedKernels {
  std::vector<at::Tensor> (*by_kernels)(const OnDevice& run) = nullptr;
  std::vector<at::Tensor> (*by_cpu)(const OnDevice& run) = nullptr;
};
inline EmulatedKernels emulated_kernels;

}  // namespace rev::kernels
