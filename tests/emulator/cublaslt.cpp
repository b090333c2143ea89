#include "emulator/cublaslt.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <cuda_runtime_api.h>
#include <mutex>
#include <thread>

#include "cuda/bfloat16.h"

namespace rev::emulator {
namespace {

std::mutex mutex;

// The descriptors, in the words that the caller has for them.
struct Layout {
  cudaDataType type;
  uint64_t rows, columns;
  int64_t stride;
};

struct Operation {
  cublasComputeType_t compute;
  cudaDataType scale;
  int32_t transposes_a, transposes_b;
  uint32_t epilogue;
  void* bias;
  void* aux;
  int64_t aux_stride;
};

struct Preference {
  uint64_t workspace;
  uint32_t schemes;
  uint32_t alignment[4];  // of A, B, C, D
};

struct Algorithm {
  uint64_t id;
  int32_t split_k;
  uint32_t scheme;
  uint32_t alignment;  // that it needs
  uint64_t workspace;  // that it needs
};

template <class T, class Words>
T* as(Words* words) {
  static_assert(sizeof(T) <= sizeof(Words));
  return reinterpret_cast<T*>(words);
}
template <class T, class Words>
const T* as(const Words* words) {
  static_assert(sizeof(T) <= sizeof(Words));
  return reinterpret_cast<const T*>(words);
}

template <class T>
cublasStatus_t take(T& attribute, const void* buffer, std::size_t bytes) {
  if (buffer == nullptr || bytes != sizeof attribute) return CUBLAS_STATUS_INVALID_VALUE;
  std::memcpy(&attribute, buffer, bytes);
  return CUBLAS_STATUS_SUCCESS;
}

template <class T>
cublasStatus_t give(const T& attribute, void* buffer, std::size_t bytes, std::size_t* written) {
  if (buffer == nullptr || bytes != sizeof attribute) return CUBLAS_STATUS_INVALID_VALUE;
  std::memcpy(buffer, &attribute, bytes);
  if (written != nullptr) *written = bytes;
  return CUBLAS_STATUS_SUCCESS;
}

bool fails(const char* function) { return cublaslt().failing == function; }

bool aligned(const void* pointer, uint64_t bytes) {
  return reinterpret_cast<uintptr_t>(pointer) % bytes == 0;
}

// A matrix of columns.
class Columns {
 public:
  Columns(const void* data, cudaDataType type, int64_t stride, bool transposed = false)
      : data_(const_cast<void*>(data)), type_(type), stride_(stride), transposed_(transposed) {}

  float get(int64_t row, int64_t column) const {
    const int64_t i = index(row, column);
    return type_ == CUDA_R_32F ? static_cast<const float*>(data_)[i]
                               : cuda::widen(static_cast<const cuda::BFloat16*>(data_)[i]);
  }

  void set(int64_t row, int64_t column, float value) const {
    const int64_t i = index(row, column);
    if (type_ == CUDA_R_32F) {
      static_cast<float*>(data_)[i] = value;
    } else {
      static_cast<cuda::BFloat16*>(data_)[i] = cuda::narrow<cuda::BFloat16>(value);
    }
  }

 private:
  int64_t index(int64_t row, int64_t column) const {
    return transposed_ ? column + row * stride_ : row + column * stride_;
  }

  void* data_;
  cudaDataType type_;
  int64_t stride_;
  bool transposed_;
};

// The sum of term(0) to term(k - 1) in the algorithm's order.
template <class Term>
float sum_of(const Algorithm& algorithm, int64_t k, const Term& term) {
  const auto parts = static_cast<int64_t>(1 + algorithm.id % 5);
  float sum = 0;
  for (int64_t part = 0; part < parts; ++part) {
    float partial = 0;
    for (int64_t i = part; i < k; i += parts) partial += term(i);
    sum += partial;
  }
  return sum;
}

constexpr float kRoot = 0.7978845608028654f;  // of 2 / pi
constexpr float kCubic = 0.044715f;

float gelu(float x) { return 0.5f * x * (1 + std::tanh(kRoot * (x + kCubic * x * x * x))); }

float gelu_derivative(float x) {
  const float t = std::tanh(kRoot * (x + kCubic * x * x * x));
  return 0.5f * (1 + t) + 0.5f * x * (1 - t * t) * kRoot * (1 + 3 * kCubic * x * x);
}

bool fits(const Layout& x) {
  return (x.type == CUDA_R_32F || x.type == CUDA_R_16BF) && x.rows > 0 && x.columns > 0 &&
         x.stride >= static_cast<int64_t>(x.rows);
}

bool fits(const Operation& o, const Layout& a, const Layout& b, const Layout& c, const Layout& d) {
  const bool ta = o.transposes_a == CUBLAS_OP_T, tb = o.transposes_b == CUBLAS_OP_T;
  const uint64_t k = ta ? a.rows : a.columns;
  const bool uses_bias = (o.epilogue & (CUBLASLT_EPILOGUE_BIAS | 16 | CUBLASLT_EPILOGUE_BGRADA |
                                        CUBLASLT_EPILOGUE_BGRADB)) != 0;
  const bool uses_aux = (o.epilogue & 128) != 0;
  return fits(a) && fits(b) && fits(c) && fits(d) && (ta ? a.columns : a.rows) == d.rows &&
         (tb ? b.columns : b.rows) == k && (tb ? b.rows : b.columns) == d.columns &&
         c.rows == d.rows && c.columns == d.columns && a.type == b.type && c.type == d.type &&
         (a.type == CUDA_R_16BF || d.type == CUDA_R_32F) && o.scale == CUDA_R_32F &&
         (o.compute == CUBLAS_COMPUTE_32F || o.compute == CUBLAS_COMPUTE_32F_FAST_TF32) &&
         (!uses_bias || o.bias != nullptr) &&
         (!uses_aux || (o.aux != nullptr && aligned(o.aux, 16) && o.aux_stride % 8 == 0 &&
                        o.aux_stride >= static_cast<int64_t>(d.rows)));
}

void multiply(const Algorithm& algorithm, const Operation& o, float alpha, const Columns& a,
              const Columns& b, float beta, const Columns& c, const Columns& d, int64_t m,
              int64_t n, int64_t k, cudaDataType type) {
  static int calls = 0;
  ++calls;
  const Columns bias(o.bias, type, 1), aux(o.aux, type, o.aux_stride);
  for (int64_t i = 0; i < m; ++i) {
    float gradient = 0;
    for (int64_t j = 0; j < n; ++j) {
      const float sum = sum_of(algorithm, k, [&](int64_t l) { return a.get(i, l) * b.get(l, j); });
      float value = alpha * sum + (beta == 0 ? 0 : beta * c.get(i, j));
      // Blocks that share a sum are done in no certain order.
      if (algorithm.split_k > 1) value *= 1.0f + 0x1p-20f * static_cast<float>(calls);
      if ((o.epilogue & CUBLASLT_EPILOGUE_BIAS) != 0) value += bias.get(i, 0);
      if (o.epilogue == CUBLASLT_EPILOGUE_GELU_AUX_BIAS) {
        aux.set(i, j, value);
        value = gelu(value);
      }
      if (o.epilogue == CUBLASLT_EPILOGUE_DGELU_BGRAD) {
        value *= gelu_derivative(aux.get(i, j));
        gradient += value;
      }
      d.set(i, j, value);
    }
    if (o.epilogue == CUBLASLT_EPILOGUE_DGELU_BGRAD) bias.set(i, 0, gradient);
    if (o.epilogue == CUBLASLT_EPILOGUE_BGRADA) {
      bias.set(i, 0, sum_of(algorithm, k, [&](int64_t l) { return a.get(i, l); }));
    }
  }
  for (int64_t j = 0; j < n && o.epilogue == CUBLASLT_EPILOGUE_BGRADB; ++j) {
    bias.set(j, 0, sum_of(algorithm, k, [&](int64_t l) { return b.get(l, j); }));
  }
}

}  // namespace

CublasLt& cublaslt() {
  static CublasLt library;
  return library;
}

}  // namespace rev::emulator

using namespace rev::emulator;

extern "C" {

// ---- cublasLt ----

cublasStatus_t cublasLtCreate(cublasLtHandle_t* handle) {
  const std::lock_guard<std::mutex> lock(mutex);
  if (fails("cublasLtCreate")) return cublaslt().status;
  // One for each device, so that a call with another device's is seen.
  *handle = reinterpret_cast<cublasLtHandle_t>(uintptr_t{0x100} + unsigned(cublaslt().device));
  ++cublaslt().handles;
  return CUBLAS_STATUS_SUCCESS;
}

const char* cublasLtGetStatusName(cublasStatus_t status) {
  return status == CUBLAS_STATUS_NOT_SUPPORTED ? "CUBLAS_STATUS_NOT_SUPPORTED" : "CUBLAS_STATUS";
}

const char* cublasLtGetStatusString(cublasStatus_t) { return "refused by the stand-in"; }

cublasStatus_t cublasLtMatrixLayoutInit_internal(cublasLtMatrixLayout_t layout, size_t size,
                                                 cudaDataType type, uint64_t rows, uint64_t columns,
                                                 int64_t stride) {
  if (size != sizeof *layout) return CUBLAS_STATUS_ALLOC_FAILED;
  *as<Layout>(layout) = {type, rows, columns, stride};
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescInit_internal(cublasLtMatmulDesc_t operation, size_t size,
                                               cublasComputeType_t compute, cudaDataType_t scale) {
  if (size != sizeof *operation) return CUBLAS_STATUS_ALLOC_FAILED;
  *as<Operation>(operation) = {
      compute, scale, CUBLAS_OP_N, CUBLAS_OP_N, CUBLASLT_EPILOGUE_DEFAULT, nullptr, nullptr, 0};
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t operation,
                                              cublasLtMatmulDescAttributes_t attribute,
                                              const void* buffer, size_t bytes) {
  Operation& o = *as<Operation>(operation);
  switch (attribute) {
    case CUBLASLT_MATMUL_DESC_TRANSA:
      return take(o.transposes_a, buffer, bytes);
    case CUBLASLT_MATMUL_DESC_TRANSB:
      return take(o.transposes_b, buffer, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE:
      return take(o.epilogue, buffer, bytes);
    case CUBLASLT_MATMUL_DESC_BIAS_POINTER:
      return take(o.bias, buffer, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER:
      return take(o.aux, buffer, bytes);
    case CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD:
      return take(o.aux_stride, buffer, bytes);
    default:
      return CUBLAS_STATUS_INVALID_VALUE;
  }
}

cublasStatus_t cublasLtMatmulPreferenceInit_internal(cublasLtMatmulPreference_t preference,
                                                     size_t size) {
  if (size != sizeof *preference) return CUBLAS_STATUS_ALLOC_FAILED;
  *as<Preference>(preference) = {0, CUBLASLT_REDUCTION_SCHEME_MASK, {256, 256, 256, 256}};
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t preference,
                                                    cublasLtMatmulPreferenceAttributes_t attribute,
                                                    const void* buffer, size_t bytes) {
  Preference& p = *as<Preference>(preference);
  switch (attribute) {
    case CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES:
      return take(p.workspace, buffer, bytes);
    case CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK:
      return take(p.schemes, buffer, bytes);
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES:
    case CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES:
      return take(p.alignment[attribute - CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES], buffer,
                  bytes);
    default:
      return CUBLAS_STATUS_INVALID_VALUE;
  }
}

cublasStatus_t cublasLtMatmulAlgoConfigGetAttribute(const cublasLtMatmulAlgo_t* algorithm,
                                                    cublasLtMatmulAlgoConfigAttributes_t attribute,
                                                    void* buffer, size_t bytes, size_t* written) {
  const Algorithm& a = *as<Algorithm>(algorithm);
  switch (attribute) {
    case CUBLASLT_ALGO_CONFIG_SPLITK_NUM:
      return give(a.split_k, buffer, bytes, written);
    case CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME:
      return give(a.scheme, buffer, bytes, written);
    default:
      return CUBLAS_STATUS_INVALID_VALUE;
  }
}

cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t operation,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int requested,
                                              cublasLtMatmulHeuristicResult_t results[],
                                              int* returned) {
  std::this_thread::sleep_for(std::chrono::milliseconds(cublaslt().search_milliseconds));
  const std::lock_guard<std::mutex> lock(mutex);
  if (fails("cublasLtMatmulAlgoGetHeuristic")) return cublaslt().status;
  const Operation& o = *as<Operation>(operation);
  const Preference& p = *as<Preference>(preference);
  *returned = 0;
  if (!fits(o, *as<Layout>(a), *as<Layout>(b), *as<Layout>(c), *as<Layout>(d))) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  const auto search = static_cast<uint64_t>(++cublaslt().searches);
  uint32_t alignment = *std::min_element(p.alignment, p.alignment + 4);
  while (o.bias != nullptr && !aligned(o.bias, alignment)) alignment /= 2;
  const auto offer = [&](const Algorithm& algorithm, cublasStatus_t state) {
    if (*returned == requested) return;
    cublasLtMatmulHeuristicResult_t& result = results[(*returned)++];
    *as<Algorithm>(&result.algo) = algorithm;
    result.workspaceSize = algorithm.workspace;
    result.state = state;
  };
  // Where they may, those that split sums come first, and there are many.
  const int splitting = p.schemes != 0 ? requested : cublaslt().ignores_mask ? 2 : 0;
  for (int i = 0; i < splitting; ++i) {
    const uint32_t scheme =
        i % 2 == 0 ? CUBLASLT_REDUCTION_SCHEME_INPLACE : CUBLASLT_REDUCTION_SCHEME_NONE;
    offer({1000 * search + 100 + uint64_t(i), 4, scheme, alignment, 1 << 20},
          CUBLAS_STATUS_SUCCESS);
  }
  if (cublaslt().only_split_sums) return CUBLAS_STATUS_SUCCESS;
  offer({1000 * search + 8, 1, 0, alignment, 0}, CUBLAS_STATUS_NOT_SUPPORTED);
  if (cublaslt().ignores_mask) {
    offer({1000 * search + 9, 1, 0, alignment, p.workspace + 1}, CUBLAS_STATUS_SUCCESS);
  }
  // The fastest of what is left, and slower ones; their numbers differ from search to search.
  for (uint64_t i = 10; i < 13; ++i) {
    offer({1000 * search + i + search, 1, 0, alignment, p.workspace}, CUBLAS_STATUS_SUCCESS);
  }
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t operation,
                              const void* alpha, const void* a_data, cublasLtMatrixLayout_t a,
                              const void* b_data, cublasLtMatrixLayout_t b, const void* beta,
                              const void* c_data, cublasLtMatrixLayout_t c, void* d_data,
                              cublasLtMatrixLayout_t d, const cublasLtMatmulAlgo_t* algorithm,
                              void* workspace, size_t workspace_bytes, cudaStream_t stream) {
  const std::lock_guard<std::mutex> lock(mutex);
  CublasLt& library = cublaslt();
  if (fails("cublasLtMatmul")) return library.status;
  const Operation& o = *as<Operation>(operation);
  const Layout &la = *as<Layout>(a), &lb = *as<Layout>(b), &lc = *as<Layout>(c),
               &ld = *as<Layout>(d);
  if (algorithm == nullptr) return CUBLAS_STATUS_INVALID_VALUE;
  const Algorithm& chosen = *as<Algorithm>(algorithm);
  bool all_aligned = o.bias == nullptr || aligned(o.bias, chosen.alignment);
  for (const void* pointer : {a_data, b_data, c_data, static_cast<const void*>(d_data)}) {
    all_aligned = all_aligned && pointer != nullptr && aligned(pointer, chosen.alignment);
  }
  if (!fits(o, la, lb, lc, ld) || !all_aligned || workspace_bytes < chosen.workspace ||
      (chosen.workspace > 0 && !aligned(workspace, 16)) ||
      reinterpret_cast<uintptr_t>(handle) != 0x100 + unsigned(library.device)) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  library.calls.push_back({chosen.id, workspace, workspace_bytes, stream, library.device});
  const bool ta = o.transposes_a == CUBLAS_OP_T, tb = o.transposes_b == CUBLAS_OP_T;
  multiply(chosen, o, *static_cast<const float*>(alpha), Columns(a_data, la.type, la.stride, ta),
           Columns(b_data, lb.type, lb.stride, tb), *static_cast<const float*>(beta),
           Columns(c_data, lc.type, lc.stride), Columns(d_data, ld.type, ld.stride),
           static_cast<int64_t>(ld.rows), static_cast<int64_t>(ld.columns),
           static_cast<int64_t>(ta ? la.rows : la.columns), ld.type);
  return CUBLAS_STATUS_SUCCESS;
}

// ---- CUDA's runtime ----

cudaError_t cudaGetDevice(int* device) {
  const std::lock_guard<std::mutex> lock(mutex);
  *device = cublaslt().device;
  return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t, cudaStreamCaptureStatus* status) {
  const std::lock_guard<std::mutex> lock(mutex);
  *status = cublaslt().capturing ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
  return cudaSuccess;
}

cudaError_t cudaMalloc(void** memory, size_t bytes) {
  const std::lock_guard<std::mutex> lock(mutex);
  if (fails("cudaMalloc")) return cudaErrorMemoryAllocation;
  cublaslt().allocations.push_back(bytes);
  *memory = std::aligned_alloc(256, bytes);
  return *memory != nullptr ? cudaSuccess : cudaErrorMemoryAllocation;
}

}  // extern "C"
