// A build with CUDA: offsets are reserved as LibTorch's own operators do.
#include <ATen/cuda/CUDAGeneratorImpl.h>
#include <mutex>

#include "kernels/generator.h"

namespace rev::kernels {

Philox draw_on_cuda(c10::Device device) {
  at::Generator generator = at::cuda::detail::getDefaultCUDAGenerator(device.index());
  auto* const implementation = generator.get<at::CUDAGeneratorImpl>();
  const std::lock_guard<std::mutex> lock(generator.mutex());
  const at::PhiloxCudaState state = implementation->philox_cuda_state(/*increment=*/4);
  if (!state.captured_) {
    return {static_cast<int64_t>(state.seed_.val), static_cast<int64_t>(state.offset_.val)};
  }
  return {0, static_cast<int64_t>(state.offset_intragraph_), state.seed_.ptr, state.offset_.ptr};
}

}  // namespace rev::kernels
