// A build with CUDA: kernels run on the tensors' device, on its current stream.
#include <array>
#include <atomic>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include "kernels/device.h"

namespace rev::kernels {
namespace {

// The oldest architecture that kernels are compiled for (cmake/Rooms.cmake): compute
// capability 8.0.
constexpr int kOldestMajor = 8;

void check_capability(const char* op, c10::DeviceIndex device) {
  static std::array<std::atomic<bool>, C10_COMPILE_TIME_MAX_GPUS> checked{};
  std::atomic<bool>& is_known = checked[static_cast<size_t>(device)];
  if (is_known.load(std::memory_order_relaxed)) return;
  int major = 0, minor = 0;
  C10_CUDA_CHECK(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device));
  C10_CUDA_CHECK(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device));
  TORCH_CHECK(major >= kOldestMajor, op, ": the kernels need compute capability ", kOldestMajor,
              ".0 or later, cuda:", static_cast<int>(device), " has ", major, ".", minor);
  is_known.store(true, std::memory_order_relaxed);
}

}  // namespace

bool runs_on_cuda(const char* op, c10::Device device) {
  if (!device.is_cuda()) return false;
  check_capability(op, device.has_index() ? device.index() : c10::cuda::current_device());
  return true;
}

void with_stream(const at::Tensor& t, const std::function<void(cuda::Stream)>& launch) {
  const c10::cuda::CUDAGuard guard(t.device());
  launch(c10::cuda::getCurrentCUDAStream().stream());
}

}  // namespace rev::kernels
