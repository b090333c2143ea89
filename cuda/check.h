// CUDA's errors as exceptions.
#pragma once

#include <cuda_runtime_api.h>
#include <stdexcept>
#include <string>

/// Throws std::runtime_error with the call's text and CUDA's reason where `call` does not succeed.
#define REV_CUDA_CHECK(call) ::rev::cuda::check((call), #call)

namespace rev::cuda {

inline void check(cudaError_t status, const char* call) {
  if (status != cudaSuccess) {
    throw std::runtime_error(std::string(call) + ": " + cudaGetErrorString(status));
  }
}

}  // namespace rev::cuda
