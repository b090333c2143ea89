// The norm of one row by one warp, for the kernels that read the row (norm.cu) and those that make
// it (update_norm.cu).
#pragma once

#include <cstddef>
#include <cstdint>
#include <cuda_runtime.h>

#include "cuda/launch.h"
#include "cuda/norm.h"
#include "cuda/norm_math.h"
#include "cuda/row.h"
#include "cuda/warp.h"

namespace rev::cuda {

constexpr int kPiece = kWarp * kLaneSums;  // numbers of a row that a warp takes at a time
constexpr int kRowBlocks = 4;              // of a multiprocessor that registers leave room for

/// The first of this lane's columns in a row's first piece.
__device__ __forceinline__ int lane_column() {
  return static_cast<int>(threadIdx.x % kWarp) * kLaneSums;
}

/// Bytes of shared memory in which a block's warps keep their rows of n numbers; 0 where rows are
/// so long that few warps would find place: those are read again, from a cache.
inline std::size_t kept_bytes(int64_t n) {
  // Of 1280 numbers a row four blocks find room in a multiprocessor of sm_80, which are half of its
  // threads; of 2048 two, on sm_90 three: fewer threads, but a row is read once.
  constexpr std::size_t kMost = 64 << 10;
  const std::size_t padded = static_cast<std::size_t>((n + kPiece - 1) / kPiece * kPiece);
  const std::size_t bytes = padded * sizeof(float) * kWarpsOfBlock;
  return bytes <= kMost ? bytes : 0;
}

/// A warp's row in shared memory. Each lane reads what it wrote itself: there is nothing to wait
/// for. A piece is all lanes' first four numbers and then all lanes' last four, so that no two of
/// the lanes that are served at a time meet in a bank.
class KeptRow {
 public:
  /// `kept`: the block's kept_bytes(n), or null where that is 0.
  __device__ KeptRow(float* kept, int n)
      : row_(kept == nullptr ? nullptr
                             : kept + (n + kPiece - 1) / kPiece * kPiece *
                                          static_cast<int>(threadIdx.x / kWarp)) {}

  __device__ bool holds() const { return row_ != nullptr; }

  __device__ void put(int column, const float (&values)[kLaneSums]) const {
    float* at = place(column);
    *reinterpret_cast<float4*>(at) = make_float4(values[0], values[1], values[2], values[3]);
    *reinterpret_cast<float4*>(at + kPiece / 2) =
        make_float4(values[4], values[5], values[6], values[7]);
  }

  __device__ void get(int column, float (&values)[kLaneSums]) const {
    const float* at = place(column);
    const float4 a = *reinterpret_cast<const float4*>(at);
    const float4 b = *reinterpret_cast<const float4*>(at + kPiece / 2);
    values[0] = a.x, values[1] = a.y, values[2] = a.z, values[3] = a.w;
    values[4] = b.x, values[5] = b.y, values[6] = b.z, values[7] = b.w;
  }

 private:
  static_assert(kLaneSums == 8, "a lane's numbers are two float4");

  __device__ float* place(int column) const {
    return row_ + column / kPiece * kPiece + threadIdx.x % kWarp * 4;
  }

  float* row_;
};

/// Writes a row's numbers from `column` on.
template <bool kWide>
__device__ __forceinline__ void write_floats(const Floats& to, int64_t row, int column, int n,
                                             const float (&values)[kLaneSums]) {
  if (to.as_float != nullptr) store_floats<kWide>(to.as_float + row * n, column, n, values);
  if (to.as_bfloat16 != nullptr) store_floats<kWide>(to.as_bfloat16 + row * n, column, n, values);
}

/// y = norm(x) for row `row` of n numbers, inverse = 1 / n. make(column, values): this lane's
/// numbers from `column` on, 0 beyond the row, called once for each; again(column, values): the
/// same, where the row is not kept.
template <bool kWide, class Make, class Again>
__device__ __forceinline__ void norm_row(const Floats& y, const Moments& moments, int64_t row,
                                         int n, const Norm& norm, float inverse,
                                         const KeptRow& kept, const Make& make,
                                         const Again& again) {
  float sum[kLaneSums] = {};
#pragma unroll 1  // here and below: many warps are in flight, each with one piece
  for (int column = lane_column(); column < n; column += kPiece) {
    float x[kLaneSums];
    make(column, x);
    if (kept.holds()) kept.put(column, x);
#pragma unroll
    for (int k = 0; k < kLaneSums; ++k) sum[k] += x[k];
  }
  const auto read = [&](int column, float(&x)[kLaneSums]) {
    if (kept.holds()) {
      kept.get(column, x);
    } else {
      again(column, x);
    }
  };

  const float mean = norm.centred ? ordered_warp_sum(sum) * inverse : 0.0f;
  float squares[kLaneSums] = {};
#pragma unroll 1
  for (int column = lane_column(); column < n; column += kPiece) {
    float x[kLaneSums];
    read(column, x);
#pragma unroll
    for (int k = 0; k < kLaneSums; ++k) {
      const float d = x[k] - mean;
      squares[k] += kWide || column + k < n ? d * d : 0.0f;
    }
  }
  const float rstd = norm_scale(ordered_warp_sum(squares) * inverse, norm.eps);
#pragma unroll 1
  for (int column = lane_column(); column < n; column += kPiece) {
    float x[kLaneSums], weight[kLaneSums];
    read(column, x);
    load_floats<kWide>(norm.weight, column, n, weight);
#pragma unroll
    for (int k = 0; k < kLaneSums; ++k) x[k] = (x[k] - mean) * rstd * weight[k];
    if (norm.bias != nullptr) {
      float bias[kLaneSums];
      load_floats<kWide>(norm.bias, column, n, bias);
#pragma unroll
      for (int k = 0; k < kLaneSums; ++k) x[k] += bias[k];
    }
    write_floats<kWide>(y, row, column, n, x);
  }
  if (threadIdx.x % kWarp == 0) {
    if (moments.mean != nullptr) moments.mean[row] = mean;
    if (moments.rstd != nullptr) moments.rstd[row] = rstd;
  }
}

}  // namespace rev::cuda
