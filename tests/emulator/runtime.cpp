// What launchers need of CUDA's runtime, so that no CUDA library is linked.
#include "emulator/runtime.h"

#include <cstring>
#include <cuda_runtime_api.h>
#include <map>
#include <string>

#include "emulator/launch.h"

namespace rev::emulator {
namespace {

constexpr std::size_t kUnasked = 48 << 10;  // bytes of shared memory that need no asking
constexpr std::size_t kMost = 227 << 10;    // that compute capability 9.0 gives

std::map<const void*, std::size_t>& asked_for() {
  static std::map<const void*, std::size_t> bytes;
  return bytes;
}

}  // namespace

void check_dynamic_shared(const void* kernel, std::size_t bytes) {
  if (bytes > kMost) {
    throw Error(std::to_string(bytes) + " bytes of dynamic shared memory: a GPU has 227 KiB");
  }
  const auto asked = asked_for().find(kernel);
  if (bytes > kUnasked && (asked == asked_for().end() || asked->second < bytes)) {
    throw Error(std::to_string(bytes) + " bytes of dynamic shared memory, more than 48 KiB: " +
                "cudaFuncAttributeMaxDynamicSharedMemorySize does not allow it");
  }
}

}  // namespace rev::emulator

extern "C" {

cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute attribute, int value) {
  using namespace rev::emulator;
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize || value < 0) {
    return cudaErrorInvalidValue;
  }
  if (static_cast<std::size_t>(value) > kMost) {
    throw Error(std::to_string(value) + " bytes of dynamic shared memory: a GPU has 227 KiB");
  }
  asked_for()[kernel] = static_cast<std::size_t>(value);
  return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void* memory, int value, size_t bytes, cudaStream_t) {
  std::memset(memory, value, bytes);
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind,
                            cudaStream_t) {
  std::memcpy(to, from, bytes);
  return cudaSuccess;
}

const char* cudaGetErrorString(cudaError_t) { return "refused by the emulator"; }

}  // extern "C"
