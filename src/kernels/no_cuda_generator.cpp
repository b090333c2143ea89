// A build without CUDA: there is no such generator.
#include "kernels/device.h"
#include "kernels/generator.h"

namespace rev::kernels {

Philox draw_on_cuda(c10::Device device) {
  runs_on_cuda("draw_philox", device);  // throws
  return {};
}

}  // namespace rev::kernels
