// A build without CUDA: there are no kernels to run.
#include "kernels/device.h"

namespace rev::kernels {

bool runs_on_cuda(const char* op, c10::Device device) {
  TORCH_CHECK(!device.is_cuda(), op, ": the device is ", device,
              ", but rev was built without CUDA kernels; "
              "configure with REV_CUDA=ON and a LibTorch that has CUDA");
  return false;
}

void with_stream(const at::Tensor&, const std::function<void(cuda::Stream)>&) {}

}  // namespace rev::kernels
