// The tests of the room `kernels` in the program whose operators are emulated.
#include "emulator/device.h"
#include "kernels/two_devices.h"

namespace rev::emulator {
namespace {

using kernels::EmulatedKernels;
using kernels::OnDevice;

[[maybe_unused]] const bool ready = [] {
  run_products(true);  // they have tests, too
  kernels::emulated_kernels = {
      [](const OnDevice& run) { return run(c10::kCPU); },
      [](const OnDevice& run) {
        run_kernels(false);
        auto results = run(c10::kCPU);
        run_kernels(true);
        return results;
      },
  };
  return true;
}();

}  // namespace
}  // namespace rev::emulator
