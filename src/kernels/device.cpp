#include "rev/kernels/device.h"

#include "kernels/device.h"

namespace rev::kernels {

void check_type_of_device(const char* op, c10::Device device) {
  TORCH_CHECK(device.is_cpu() || device.is_cuda(), op, ": expected the CPU or a CUDA device, got ",
              device);
}

void check_device(c10::Device device) {
  check_type_of_device("rev", device);
  runs_on_cuda("rev", device);
}

}  // namespace rev::kernels
