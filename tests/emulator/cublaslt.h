// A stand-in for cublasLt and for what its caller needs of CUDA's runtime (cublaslt.cpp): products
// in plain loops on the CPU, a record of the calls, and faults on demand.
//
// It is as strict as the library about sizes, strides, alignment and workspace, and it shows what
// must not happen: each search names other algorithms, each algorithm adds up in an order of its
// own, and those that split the sum over k give other bits from call to call.
#pragma once

#include <cstddef>
#include <cublasLt.h>
#include <string>
#include <vector>

namespace rev::emulator {

/// A call of cublasLtMatmul.
struct MatmulCall {
  uint64_t algorithm;
  void* workspace;
  std::size_t workspace_bytes;
  cudaStream_t stream;
  int device;
};

struct CublasLt {
  // What was called since the last `CublasLt()`.
  std::vector<MatmulCall> calls;
  int searches = 0;
  int handles = 0;
  std::vector<std::size_t> allocations;  ///< bytes, by cudaMalloc

  // What the caller is to meet.
  int device = 0;                ///< the current one
  bool capturing = false;        ///< whether streams are being captured
  bool only_split_sums = false;  ///< whether no algorithm but those that split sums is there
  bool ignores_mask = false;     ///< whether a search names them even if they are not asked for
  int search_milliseconds = 0;   ///< how long a search takes
  std::string failing;           ///< the function that fails, with `status`
  cublasStatus_t status = CUBLAS_STATUS_EXECUTION_FAILED;
};

/// The one there is. Calls may come from several threads; tests look at it while none does.
CublasLt& cublaslt();

}  // namespace rev::emulator
