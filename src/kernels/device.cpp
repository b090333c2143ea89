#include "rev/kernels/device.h"

#include "kernels/device.h"

namespace rev::kernels {

void check_device(c10::Device device) { runs_on_cuda("rev", device); }

}  // namespace rev::kernels
