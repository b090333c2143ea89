// Forward, a warp takes a row. Backward, a block takes a slice of rows: first its warps take rows,
// for dx; then its threads take columns, for the slice's part of dweight and dbias, and find what
// they read in a cache.
#include "cuda/launch.h"
#include "cuda/norm.h"
#include "cuda/norm_math.h"
#include "cuda/norm_row.h"
#include "cuda/row.h"
#include "cuda/slices.h"
#include "cuda/warp.h"

namespace rev::cuda {
namespace {

template <bool kWide, class X>
__global__ void __launch_bounds__(kBlock, kRowBlocks)
    norm_kernel(Floats y, Moments moments, const X* x, Norm norm, Rows size, float inverse,
                bool keeps) {
  REV_DYNAMIC_SHARED(float, shared);
  const int n = static_cast<int>(size.width);
  const KeptRow kept(keeps ? shared : nullptr, n);
  for (int64_t row = first_row(); row < size.rows; row += rows_apart()) {
    const X* from = x + row * n;
    const auto read = [&](int column, float(&values)[kLaneSums]) {
      load_floats<kWide>(from, column, n, values);
    };
    norm_row<kWide>(y, moments, row, n, norm, inverse, kept, read, read);
  }
}

// One row's dx by one warp, from its dy and x.
template <bool kWide, class X, class G>
__device__ __forceinline__ void gradient_row(X* dx, const X* residual, const G* dy, const X* x,
                                             const float* weights, float mean, float rstd,
                                             bool centred, int n, float inverse) {
  // d and the normed row.
  const auto read = [&](int column, float(&d)[kLaneSums], float(&normed)[kLaneSums]) {
    float weight[kLaneSums];
    load_floats<kWide>(dy, column, n, d);
    load_floats<kWide>(weights, column, n, weight);
#pragma unroll
    for (int k = 0; k < kLaneSums; ++k) d[k] *= weight[k];
    load_floats<kWide>(x, column, n, normed);
#pragma unroll
    for (int k = 0; k < kLaneSums; ++k) normed[k] = (normed[k] - mean) * rstd;
  };
  float sum_d[kLaneSums] = {}, sum_dn[kLaneSums] = {};
#pragma unroll 1
  for (int column = lane_column(); column < n; column += kPiece) {
    float d[kLaneSums], normed[kLaneSums];
    read(column, d, normed);
#pragma unroll
    for (int k = 0; k < kLaneSums; ++k) {
      sum_d[k] += d[k];
      sum_dn[k] += kWide || column + k < n ? d[k] * normed[k] : 0.0f;
    }
  }
  const float mean_d = centred ? ordered_warp_sum(sum_d) * inverse : 0.0f;
  const float mean_dn = ordered_warp_sum(sum_dn) * inverse;
#pragma unroll 1
  for (int column = lane_column(); column < n; column += kPiece) {
    float d[kLaneSums], normed[kLaneSums];
    read(column, d, normed);
#pragma unroll
    for (int k = 0; k < kLaneSums; ++k) {
      d[k] = norm_gradient(d[k], normed[k], mean_d, mean_dn, rstd);
    }
    if (residual != nullptr) {
      load_floats<kWide>(residual, column, n, normed);
#pragma unroll
      for (int k = 0; k < kLaneSums; ++k) d[k] = normed[k] + d[k];
    }
    store_floats<kWide>(dx, column, n, d);
  }
}

// N consecutive elements in one access of 64 or 128 bits, or one by one.
template <int N, class T>
__device__ __forceinline__ void load_columns(const T* p, T (&values)[N]) {
  if constexpr (N * sizeof(T) == sizeof(uint2)) {
    const uint2 word = *reinterpret_cast<const uint2*>(p);
    memcpy(values, &word, sizeof word);
  } else {
    load(p, values);
  }
}

// The part of `rows` rows in dweight and dbias, for the columns of one thread, kEach at a time.
template <int kEach, class X, class G>
__device__ __forceinline__ void slice_columns(float* weight, float* bias, const G* dy, const X* x,
                                              const float* mean, const float* rstd, int rows,
                                              int n) {
  for (int column = static_cast<int>(threadIdx.x) * kEach; column < n; column += kBlock * kEach) {
    float by_weight[kEach] = {}, by_bias[kEach] = {};
#pragma unroll(kEach)
    for (int row = 0; row < rows; ++row) {
      const float centre = mean != nullptr ? mean[row] : 0.0f;
      X value[kEach];
      G g[kEach];
      load_columns(x + row * n + column, value);
      load_columns(dy + row * n + column, g);
#pragma unroll
      for (int k = 0; k < kEach; ++k) {
        by_weight[k] += widen(g[k]) * ((widen(value[k]) - centre) * rstd[row]);
        by_bias[k] += widen(g[k]);
      }
    }
    if (weight != nullptr) store(weight + column, by_weight);
    if (bias != nullptr) store(bias + column, by_bias);
  }
}

template <bool kWide, class X, class G>
__global__ void __launch_bounds__(kBlock, kRowBlocks)
    norm_backward_kernel(NormGradients<X> gradients, const G* dy, NormInputs<X> inputs, Rows size,
                         float inverse) {
  const int n = static_cast<int>(size.width);
  const bool centred = inputs.mean != nullptr;
  const int64_t slices = slices_of(size.rows);
  for (int64_t slice = blockIdx.x; slice < slices; slice += gridDim.x) {
    const int64_t first = slice * kSliceRows;
    const int64_t left = size.rows - first;
    const int rows = static_cast<int>(left < kSliceRows ? left : kSliceRows);
    if (gradients.x != nullptr) {
#pragma unroll 1
      for (int row = static_cast<int>(threadIdx.x / kWarp); row < rows; row += kWarpsOfBlock) {
        const int64_t offset = (first + row) * n;
        gradient_row<kWide>(gradients.x + offset,
                            gradients.residual != nullptr ? gradients.residual + offset : nullptr,
                            dy + offset, inputs.x + offset, inputs.weight,
                            centred ? inputs.mean[first + row] : 0.0f, inputs.rstd[first + row],
                            centred, n, inverse);
      }
    }
    if (gradients.weight != nullptr || gradients.bias != nullptr) {
      float* parts = gradients.scratch + slice * n;
      slice_columns<kWide ? 4 : 1>(gradients.weight != nullptr ? parts : nullptr,
                                   gradients.bias != nullptr ? parts + slices * n : nullptr,
                                   dy + first * n, inputs.x + first * n,
                                   centred ? inputs.mean + first : nullptr, inputs.rstd + first,
                                   rows, n);
    }
  }
}

// weight and bias [n] from parts [2, slices, n]; a block takes a warp's width of columns.
__global__ void __launch_bounds__(kSliceSums* kWarp)
    add_slices_kernel(float* weight, float* bias, const float* parts, int64_t slices, int n) {
  __shared__ float sums[kSliceSums][kWarp];
  const int blocks = (n + kWarp - 1) / kWarp;  // of columns
  for (int64_t block = blockIdx.x; block < 2 * blocks; block += gridDim.x) {
    const bool of_bias = block >= blocks;
    float* to = of_bias ? bias : weight;
    if (to == nullptr) continue;
    add_slices(to, of_bias ? parts + slices * n : parts, slices, n,
               (of_bias ? block - blocks : block) * kWarp, sums);
  }
}

}  // namespace

template <class X>
void launch_norm(const Floats& y, const Moments& moments, const X* x, const Norm& norm, Rows size,
                 Stream stream) {
  if (size.rows == 0 || size.width == 0) return;
  const bool wide =
      wide_rows(size.width) && aligned_16(y.as_float, y.as_bfloat16, x, norm.weight, norm.bias);
  const std::size_t kept = kept_bytes(size.width);
  launch(wide ? norm_kernel<true, X> : norm_kernel<false, X>,
         Shape{blocks_for(size.rows, kWarpsOfBlock), kBlock, kept}, stream, y, moments, x, norm,
         size, inverse_width(size.width), kept != 0);
}

template <class X, class G>
void launch_norm_backward(const NormGradients<X>& gradients, const G* dy,
                          const NormInputs<X>& inputs, Rows size, Stream stream) {
  if (size.width == 0) return;
  const bool parameters = gradients.weight != nullptr || gradients.bias != nullptr;
  const int64_t slices = slices_of(size.rows);
  if (slices > 0 && (parameters || gradients.x != nullptr)) {
    const bool wide =
        wide_rows(size.width) &&
        aligned_16(gradients.x, gradients.residual, gradients.scratch, dy, inputs.x, inputs.weight);
    launch(wide ? norm_backward_kernel<true, X, G> : norm_backward_kernel<false, X, G>,
           blocks_for(slices, 1), stream, gradients, dy, inputs, size, inverse_width(size.width));
  }
  if (parameters) {
    const Shape shape{blocks_for(2 * ((size.width + kWarp - 1) / kWarp), 1), kSliceSums * kWarp};
    launch(add_slices_kernel, shape, stream, gradients.weight, gradients.bias, gradients.scratch,
           slices, size.width);
  }
}

#define REV_GRADIENT_TYPE(X, G)                                                               \
  template void launch_norm_backward(const NormGradients<X>&, const G*, const NormInputs<X>&, \
                                     Rows, Stream);
#define REV_INPUT_TYPE(X)                                                                        \
  template void launch_norm(const Floats&, const Moments&, const X*, const Norm&, Rows, Stream); \
  REV_GRADIENT_TYPE(X, float)                                                                    \
  REV_GRADIENT_TYPE(X, BFloat16)
REV_INPUT_TYPE(float)
REV_INPUT_TYPE(BFloat16)

}  // namespace rev::cuda
