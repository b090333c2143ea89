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
  // The offset that lies on the device moves on with each replay. What tells the streams of a graph
  // apart must come again when a layer is evaluated again, so it is a seed from a generator that
  // the engine rewinds during capture, too (base::RngState).
  Philox from = draw_philox(c10::kCPU);
  from.offset_at = state.offset_.ptr;
  return from;
}

}  // namespace rev::kernels
