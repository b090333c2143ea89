// What a build with CUDA tells of streams, and tells profilers.
#include <c10/cuda/CUDAGraphsC10Utils.h>
#include <c10/cuda/CUDAGuard.h>
#include <fmt/format.h>
#include <nvtx3/nvToolsExt.h>

#include "rev/base/capture.h"
#include "rev/base/range.h"

namespace rev::base {

bool is_capturing(c10::Device device) {
  if (!device.is_cuda()) return false;
  const c10::cuda::CUDAGuard guard(device);
  return c10::cuda::currentStreamCaptureStatusMayInitCtx() != c10::cuda::CaptureStatus::None;
}

Range::Range(const char* what, int64_t layer) {
  nvtxRangePushA(fmt::format("{} {}", what, layer).c_str());
}

Range::~Range() { nvtxRangePop(); }

}  // namespace rev::base
