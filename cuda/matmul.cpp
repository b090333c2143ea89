#include "cuda/matmul.h"

#include <algorithm>
#include <compare>
#include <cublasLt.h>
#include <limits>
#include <map>
#include <mutex>
#include <stdexcept>
#include <string>
#include <utility>

#include "cuda/check.h"

namespace rev::cuda {
namespace {

/// Throws std::runtime_error with the call's text and cublasLt's reason where it does not succeed.
#define REV_CUBLASLT_CHECK(call) check_cublaslt((call), #call)

void check_cublaslt(cublasStatus_t status, const char* call) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  throw std::runtime_error(std::string(call) + ": " + cublasLtGetStatusName(status) + ", " +
                           cublasLtGetStatusString(status));
}

constexpr std::size_t kWorkspaceBytes = std::size_t{32} << 20;  // what NVIDIA advises for Hopper
constexpr int kCandidates = 16;  // algorithms to choose from, the fastest first

// All that cublasLt's choice depends on. A pointer that is aligned to 16 bytes allows the widest
// accesses: what more it is aligned to makes no difference here, so that buffers that happen to lie
// elsewhere in the recompute get the same algorithm.
struct Key {
  int device;
  int64_t m, n, k, a_stride, b_stride, c_stride, before_stride;
  bool a_transposed, b_transposed, tf32;
  FloatType in, out;
  Epilogue epilogue;
  uint32_t a_alignment, b_alignment, c_alignment, vector_alignment;

  auto operator<=>(const Key&) const = default;
};

uint32_t alignment(const void* pointer) {
  const auto address = reinterpret_cast<uintptr_t>(pointer);
  return static_cast<uint32_t>(std::min<uintptr_t>(address & -address, 16));
}

Key key_of(const Product& p, int device) {
  return {device,
          p.m,
          p.n,
          p.k,
          p.a.stride,
          p.b.stride,
          p.c_stride,
          p.before_stride,
          p.a.transposed,
          p.b.transposed,
          p.tf32,
          p.in,
          p.out,
          p.epilogue,
          alignment(p.a.data),
          alignment(p.b.data),
          alignment(p.c),
          p.vector == nullptr ? 16 : alignment(p.vector)};
}

std::string describe(const Product& p) {
  const auto type = [](FloatType t) { return t == FloatType::Float32 ? "float32" : "bfloat16"; };
  const auto matrix = [](int64_t rows, int64_t columns, const Operand& x) {
    return std::string("[") + std::to_string(rows) + "," + std::to_string(columns) + "]" +
           (x.transposed ? " transposed" : "") + " of stride " + std::to_string(x.stride);
  };
  return std::string(type(p.in)) + " " + matrix(p.m, p.k, p.a) + " by " + matrix(p.k, p.n, p.b) +
         " into " + type(p.out);
}

bool reads_or_writes_before(Epilogue e) {
  return e == Epilogue::GeluBias || e == Epilogue::GeluBackward;
}

void require(bool holds, const Product& p, const char* expected) {
  if (!holds) throw std::invalid_argument("matmul: " + std::string(expected) + ": " + describe(p));
}

void check_product(const Product& p) {
  constexpr int64_t kMost = std::numeric_limits<int32_t>::max();
  require(p.m >= 1 && p.n >= 1 && p.k >= 1 && p.m <= kMost && p.n <= kMost && p.k <= kMost, p,
          "sizes must be 1 to 2^31 - 1");
  require(p.a.stride >= (p.a.transposed ? p.m : p.k), p, "the stride of a is less than its width");
  require(p.b.stride >= (p.b.transposed ? p.k : p.n), p, "the stride of b is less than its width");
  require(p.c_stride >= p.n, p, "the stride of c is less than its width");
  require(p.in == FloatType::BFloat16 || p.out == FloatType::Float32, p,
          "float32 operands have a float32 product");
  require(p.epilogue == Epilogue::None || p.vector != nullptr, p, "the vector is missing");
  if (reads_or_writes_before(p.epilogue)) {
    require(p.before != nullptr && alignment(p.before) == 16, p,
            "`before` must be aligned to 16 bytes");
    require(p.before_stride >= p.n && p.before_stride % 8 == 0, p,
            "the stride of `before` must be a multiple of 8 and its width or more");
  }
}

cudaDataType data_type(FloatType t) { return t == FloatType::Float32 ? CUDA_R_32F : CUDA_R_16BF; }

// A matrix of cublasLt's is stored column by column: ours, read that way, is its transpose. So it
// computes c^T = b^T a^T: its A is our b, its B our a, and the rows of its D are our columns.
uint32_t epilogue_of(Epilogue e) {
  switch (e) {
    case Epilogue::None:
      return CUBLASLT_EPILOGUE_DEFAULT;
    case Epilogue::Bias:
      return CUBLASLT_EPILOGUE_BIAS;
    case Epilogue::GeluBias:
      return CUBLASLT_EPILOGUE_GELU_AUX_BIAS;
    case Epilogue::GeluBackward:
      return CUBLASLT_EPILOGUE_DGELU_BGRAD;
    case Epilogue::SumA:
      return CUBLASLT_EPILOGUE_BGRADB;
    case Epilogue::SumB:
      return CUBLASLT_EPILOGUE_BGRADA;
  }
  throw std::invalid_argument("matmul: no such epilogue");
}

// The product in cublasLt's terms.
class Operation {
 public:
  explicit Operation(const Product& p) {
    // Without TF32, float32 is multiplied as it is.
    const auto compute =
        p.tf32 && p.in == FloatType::Float32 ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
    REV_CUBLASLT_CHECK(cublasLtMatmulDescInit(&operation, compute, CUDA_R_32F));
    set(CUBLASLT_MATMUL_DESC_TRANSA, int32_t{p.b.transposed ? CUBLAS_OP_T : CUBLAS_OP_N});
    set(CUBLASLT_MATMUL_DESC_TRANSB, int32_t{p.a.transposed ? CUBLAS_OP_T : CUBLAS_OP_N});
    set(CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue_of(p.epilogue));
    if (p.epilogue != Epilogue::None) {
      set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, p.vector);
    }
    if (reads_or_writes_before(p.epilogue)) {
      set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, p.before);
      set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, p.before_stride);
    }
    lay_out(left, p.in, p.n, p.k, p.b);
    lay_out(right, p.in, p.k, p.m, p.a);
    lay_out(result, p.out, p.n, p.m, {p.c, p.c_stride});
  }

  // cublasLt takes descriptors as pointers that it could write to.
  mutable cublasLtMatmulDescOpaque_t operation{};
  mutable cublasLtMatrixLayoutOpaque_t left{}, right{}, result{};

 private:
  template <class T>
  void set(cublasLtMatmulDescAttributes_t attribute, const T& value) {
    REV_CUBLASLT_CHECK(cublasLtMatmulDescSetAttribute(&operation, attribute, &value, sizeof value));
  }

  static void lay_out(cublasLtMatrixLayoutOpaque_t& layout, FloatType type, int64_t rows,
                      int64_t columns, const Operand& x) {
    if (x.transposed) std::swap(rows, columns);
    REV_CUBLASLT_CHECK(cublasLtMatrixLayoutInit(&layout, data_type(type),
                                                static_cast<uint64_t>(rows),
                                                static_cast<uint64_t>(columns), x.stride));
  }
};

template <class T>
T config(const cublasLtMatmulAlgo_t& algorithm, cublasLtMatmulAlgoConfigAttributes_t attribute) {
  T value{};
  std::size_t written = 0;
  REV_CUBLASLT_CHECK(
      cublasLtMatmulAlgoConfigGetAttribute(&algorithm, attribute, &value, sizeof value, &written));
  return value;
}

// Whether several blocks share one sum over k.
bool splits_sums(const cublasLtMatmulAlgo_t& algorithm) {
  return config<int32_t>(algorithm, CUBLASLT_ALGO_CONFIG_SPLITK_NUM) > 1 ||
         config<uint32_t>(algorithm, CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME) !=
             CUBLASLT_REDUCTION_SCHEME_NONE;
}

cublasLtMatmulAlgo_t search(cublasLtHandle_t handle, const Product& p, const Key& key,
                            const Operation& operation) {
  cublasLtMatmulPreferenceOpaque_t preference{};
  REV_CUBLASLT_CHECK(cublasLtMatmulPreferenceInit(&preference));
  const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t attribute, const auto& value) {
    REV_CUBLASLT_CHECK(
        cublasLtMatmulPreferenceSetAttribute(&preference, attribute, &value, sizeof value));
  };
  prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64_t{kWorkspaceBytes});
  prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, uint32_t{CUBLASLT_REDUCTION_SCHEME_NONE});
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, key.b_alignment);
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, key.a_alignment);
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, key.c_alignment);
  prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, key.c_alignment);

  cublasLtMatmulHeuristicResult_t found[kCandidates] = {};
  int count = 0;
  const cublasStatus_t status = cublasLtMatmulAlgoGetHeuristic(
      handle, &operation.operation, &operation.left, &operation.right, &operation.result,
      &operation.result, &preference, kCandidates, found, &count);
  check_cublaslt(status, ("cublasLtMatmulAlgoGetHeuristic for " + describe(p)).c_str());
  for (int i = 0; i < count; ++i) {
    if (found[i].state == CUBLAS_STATUS_SUCCESS && found[i].workspaceSize <= kWorkspaceBytes &&
        !splits_sums(found[i].algo)) {
      return found[i].algo;
    }
  }
  throw std::runtime_error("matmul: cublasLt has no algorithm that takes each sum in one piece: " +
                           describe(p));
}

// What was chosen and allocated, for the life of the process: when statics are destroyed CUDA may
// be gone.
struct Table {
  std::mutex mutex;
  std::map<int, cublasLtHandle_t> handles;             // of a device
  std::map<Key, cublasLtMatmulAlgo_t> algorithms;      // of a product
  std::map<std::pair<int, Stream>, void*> workspaces;  // of a device's stream
};

Table& table() {
  static Table& table = *new Table;
  return table;
}

void refuse_capture(Stream stream, const char* first, const Product& p) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  REV_CUDA_CHECK(cudaStreamIsCapturing(stream, &status));
  if (status == cudaStreamCaptureStatusNone) return;
  throw std::runtime_error("matmul: the first product " + std::string(first) +
                           " came while that stream was being captured into a graph; compute it "
                           "once on the stream before the capture: " +
                           describe(p));
}

struct Plan {
  cublasLtHandle_t handle;
  cublasLtMatmulAlgo_t algorithm;
  void* workspace;
};

Plan plan_for(const Product& p, const Operation& operation, Stream stream) {
  int device = 0;
  REV_CUDA_CHECK(cudaGetDevice(&device));
  const Key key = key_of(p, device);
  Table& t = table();
  const std::lock_guard<std::mutex> lock(t.mutex);

  auto algorithm = t.algorithms.find(key);
  if (algorithm == t.algorithms.end()) {
    refuse_capture(stream, "of its sizes on a device", p);
    cublasLtHandle_t& handle = t.handles[device];
    if (handle == nullptr) REV_CUBLASLT_CHECK(cublasLtCreate(&handle));
    algorithm = t.algorithms.emplace(key, search(handle, p, key, operation)).first;
  }
  void*& workspace = t.workspaces[{device, stream}];
  if (workspace == nullptr) {
    refuse_capture(stream, "on a stream", p);
    REV_CUDA_CHECK(cudaMalloc(&workspace, kWorkspaceBytes));
  }
  return {t.handles.at(device), algorithm->second, workspace};
}

}  // namespace

void matmul(const Product& product, Stream stream) {
  check_product(product);
  const Operation operation(product);
  const Plan plan = plan_for(product, operation, stream);
  const float alpha = product.alpha, beta = product.add ? 1.0f : 0.0f;
  const cublasStatus_t status = cublasLtMatmul(
      plan.handle, &operation.operation, &alpha, product.b.data, &operation.left, product.a.data,
      &operation.right, &beta, product.c, &operation.result, product.c, &operation.result,
      &plan.algorithm, plan.workspace, kWorkspaceBytes, stream);
  if (status != CUBLAS_STATUS_SUCCESS) {
    check_cublaslt(status, ("cublasLtMatmul for " + describe(product)).c_str());
  }
}

}  // namespace rev::cuda
