// The doors to CUDA of a library that was built without it.
#include "kernels/device.h"

namespace rev::kernels {
namespace {

[[noreturn]] void refuse(const char* op) {
  TORCH_CHECK(false, op,
              ": the tensors are on a CUDA device, but rev was built without CUDA kernels; "
              "configure with REV_CUDA=ON and a LibTorch that has CUDA");
}

}  // namespace

void encode_cuda(at::Tensor&, const at::Tensor&, float, const Probe&) { refuse("encode"); }
void decode_cuda(at::Tensor&, const at::Tensor&, float) { refuse("decode"); }
void update_cuda(at::Tensor&, const at::Tensor&, float, const Probe&) { refuse("update_"); }
void reflect_cuda(at::Tensor&, const at::Tensor&, const at::Tensor&, float, const Probe&) {
  refuse("reflect_");
}
void blend_cuda(at::Tensor&, const at::Tensor&, float, const at::Tensor&, float, const Probe&) {
  refuse("blend_");
}
void scale_cuda(at::Tensor&, at::Tensor&, const Ratio&, const Probe&) { refuse("scale_"); }
void unscale_cuda(at::Tensor&, at::Tensor&, const Ratio&, const Probe&) { refuse("unscale_"); }
void row_sums_cuda(const at::Tensor&, at::Tensor&) { refuse("row_sums"); }

}  // namespace rev::kernels
