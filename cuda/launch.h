// How kernels are launched.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cuda_runtime.h>
#include <utility>

#include "cuda/check.h"

namespace rev::cuda {

constexpr int kBlock = 256;  // threads of a block: eight warps

/// Blocks for `units` of work at `per_block` a block; kernels stride over what is beyond the cap.
inline unsigned blocks_for(int64_t units, int64_t per_block) {
  constexpr int64_t kMost = 1 << 16;  // several waves of any GPU
  return static_cast<unsigned>(std::min((units + per_block - 1) / per_block, kMost));
}

/// Whether all of these pointers allow 128-bit accesses.
template <class... T>
bool aligned_16(const T*... pointers) {
  return ((reinterpret_cast<uintptr_t>(pointers) | ...) & 15) == 0;
}

/// Queues kernel(arguments...) on `stream` with kBlock threads a block.
template <class... P, class... A>
void launch(void (*kernel)(P...), unsigned blocks, cudaStream_t stream, A&&... arguments) {
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(blocks);
  config.blockDim = dim3(kBlock);
  config.stream = stream;
  REV_CUDA_CHECK(cudaLaunchKernelEx(&config, kernel, std::forward<A>(arguments)...));
}

}  // namespace rev::cuda
