// In place of src/kernels/cuda.cpp.
#include "emulator/device.h"

#include <string_view>

#include "kernels/device.h"

namespace rev {
namespace {

bool kernels_run = true;
bool products_run = false;

}  // namespace

namespace emulator {

void run_kernels(bool on) { kernels_run = on; }

void run_products(bool on) { products_run = on; }

}  // namespace emulator

namespace kernels {

bool runs_on_cuda(const char* op, c10::Device) {
  const bool is_product = std::string_view(op).substr(0, 6) == "matmul";
  return kernels_run && (products_run || !is_product);
}

void with_stream(const at::Tensor&, const std::function<void(cuda::Stream)>& launch) {
  launch(nullptr);
}

}  // namespace kernels
}  // namespace rev
