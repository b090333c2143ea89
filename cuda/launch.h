// How kernels are launched.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cuda_runtime.h>
#include <utility>

#include "cuda/check.h"

/// `T* const name`: the block's dynamic shared memory (Shape::shared_bytes), aligned to 16 bytes.
/// (tests/emulator, which runs kernels on the CPU, brings its own.)
#ifndef REV_DYNAMIC_SHARED
#define REV_DYNAMIC_SHARED(T, name)                             \
  extern __shared__ __align__(16) unsigned char name##_bytes[]; \
  T* const name = reinterpret_cast<T*>(name##_bytes)
#endif

namespace rev::cuda {

constexpr int kBlock = 256;  // threads of a block: eight warps

/// How many threads run a kernel.
struct Shape {
  unsigned blocks;
  unsigned threads = kBlock;     ///< of a block
  std::size_t shared_bytes = 0;  ///< of a block's dynamic shared memory
};

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

/// Queues kernel(arguments...) on `stream`. Throws std::runtime_error where CUDA refuses, as it
/// does for more shared memory than the device has.
template <class... P, class... A>
void launch(void (*kernel)(P...), const Shape& shape, cudaStream_t stream, A&&... arguments) {
  // A block has 48 KiB unless its kernel asks for more. Static arrays are counted in, and their
  // size is not known here: 16 KiB are left to them.
  constexpr std::size_t kUnasked = 32 << 10;
  if (shape.shared_bytes > kUnasked) {
    REV_CUDA_CHECK(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                        cudaFuncAttributeMaxDynamicSharedMemorySize,
                                        static_cast<int>(shape.shared_bytes)));
  }
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(shape.blocks);
  config.blockDim = dim3(shape.threads);
  config.dynamicSmemBytes = shape.shared_bytes;
  config.stream = stream;
  REV_CUDA_CHECK(cudaLaunchKernelEx(&config, kernel, std::forward<A>(arguments)...));
}

/// Queues kernel(arguments...) on `stream` with kBlock threads a block.
template <class... P, class... A>
void launch(void (*kernel)(P...), unsigned blocks, cudaStream_t stream, A&&... arguments) {
  launch(kernel, Shape{blocks}, stream, std::forward<A>(arguments)...);
}

}  // namespace rev::cuda
