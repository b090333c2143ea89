// A warp takes a strip of columns of a slice of rows, a lane as many of them as one access reads:
// it keeps their sums over the slice. A second kernel adds the slices' sums.
#include "cuda/activation.h"
#include "cuda/activation_math.h"
#include "cuda/launch.h"
#include "cuda/row.h"
#include "cuda/slices.h"
#include "cuda/sum_math.h"
#include "cuda/warp.h"

namespace rev::cuda {
namespace {

// Columns of a lane: 128 bits of them, or a few.
template <bool kWide, class T>
constexpr int kEach = kWide ? 16 / sizeof(T) : 4;

// `each` columns a lane: the strips of a row.
__host__ __device__ constexpr int64_t strips_of(int64_t width, int each) {
  return (width + kWarp * each - 1) / (kWarp * each);
}

template <class T>
unsigned blocks_of(Rows size, bool wide) {
  const int each = wide ? kEach<true, T> : kEach<false, T>;
  return blocks_for(slices_of(size.rows) * strips_of(size.width, each), kWarpsOfBlock);
}

// Columns from `column` on, 0 beyond n.
template <bool kWide, int N, class T>
__device__ __forceinline__ void read(const T* row, int column, int n, float (&values)[N]) {
  T raw[N];
  if constexpr (kWide) {
    load(row + column, raw);
  } else {
#pragma unroll
    for (int k = 0; k < N; ++k) raw[k] = column + k < n ? row[column + k] : T{};
  }
#pragma unroll
  for (int k = 0; k < N; ++k) values[k] = widen(raw[k]);
}

template <bool kWide, int N, class T>
__device__ __forceinline__ void write(T* row, int column, int n, const float (&values)[N]) {
  T raw[N];
#pragma unroll
  for (int k = 0; k < N; ++k) raw[k] = narrow<T>(values[k]);
  if constexpr (kWide) {
    store(row + column, raw);
  } else {
#pragma unroll
    for (int k = 0; k < N; ++k) {
      if (column + k < n) row[column + k] = raw[k];
    }
  }
}

template <bool kWide, int N>
__device__ __forceinline__ void add_bias(const float* bias, int column, int n, float (&values)[N]) {
  if (bias == nullptr) return;
  float b[N];
  read<kWide>(bias, column, n, b);
#pragma unroll
  for (int k = 0; k < N; ++k) values[k] += b[k];
}

// body(slice, row, end, column) for each slice's rows from `row` to before `end`, and each N
// columns that are this lane's.
template <int N, class Body>
__device__ __forceinline__ void for_strips(Rows size, const Body& body) {
  const int64_t strips = strips_of(size.width, N);
  const int64_t count = slices_of(size.rows) * strips;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  for (int64_t i = first_row(); i < count; i += rows_apart()) {
    const int64_t slice = i / strips;
    const auto column = static_cast<int>(((i - slice * strips) * kWarp + lane) * N);
    const int64_t row = slice * kSliceRows;
    if (column < size.width) body(slice, row, min(row + kSliceRows, size.rows), column);
  }
}

template <bool kWide, class T>
__global__ void __launch_bounds__(kBlock)
    gelu_kernel(T* y, const T* x, const float* bias, Rows size) {
  const auto n = static_cast<int>(size.width);
  constexpr int N = kEach<kWide, T>;
  for_strips<N>(size, [&](int64_t, int64_t row, int64_t end, int column) {
#pragma unroll 2
    for (; row < end; ++row) {
      float values[N];
      read<kWide>(x + row * n, column, n, values);
      add_bias<kWide>(bias, column, n, values);
#pragma unroll
      for (int k = 0; k < N; ++k) values[k] = gelu(values[k]).value;
      write<kWide>(y + row * n, column, n, values);
    }
  });
}

template <bool kWide, class T>
__global__ void __launch_bounds__(kBlock)
    gelu_backward_kernel(GeluGradients<T> to, const T* dy, const T* x, const float* bias,
                         Rows size) {
  const auto n = static_cast<int>(size.width);
  constexpr int N = kEach<kWide, T>;
  for_strips<N>(size, [&](int64_t slice, int64_t row, int64_t end, int column) {
    float sum[N] = {};
#pragma unroll 1
    for (; row < end; ++row) {
      float values[N], gradients[N];
      read<kWide>(x + row * n, column, n, values);
      read<kWide>(dy + row * n, column, n, gradients);
      add_bias<kWide>(bias, column, n, values);
#pragma unroll
      for (int k = 0; k < N; ++k) {
        const Activation f = gelu(values[k]);
        values[k] = f.value;
        gradients[k] *= f.slope;
        sum[k] += gradients[k];
      }
      write<kWide>(to.x + row * n, column, n, gradients);
      if (to.value != nullptr) write<kWide>(to.value + row * n, column, n, values);
    }
    if (to.sums != nullptr) write<kWide>(to.sums + slice * n, column, n, sum);
  });
}

template <bool kWide, class T>
__global__ void __launch_bounds__(kBlock) swiglu_kernel(T* y, SwigluInputs<T> inputs, Rows size) {
  const auto n = static_cast<int>(size.width);
  constexpr int N = kEach<kWide, T>;
  for_strips<N>(size, [&](int64_t, int64_t row, int64_t end, int column) {
#pragma unroll 1
    for (; row < end; ++row) {
      float gate[N], up[N];
      read<kWide>(inputs.gate + row * inputs.stride, column, n, gate);
      read<kWide>(inputs.up + row * inputs.stride, column, n, up);
      add_bias<kWide>(inputs.gate_bias, column, n, gate);
      add_bias<kWide>(inputs.up_bias, column, n, up);
#pragma unroll
      for (int k = 0; k < N; ++k) gate[k] = swiglu(gate[k], up[k]);
      write<kWide>(y + row * n, column, n, gate);
    }
  });
}

template <bool kWide, class T>
__global__ void __launch_bounds__(kBlock, 4)
    swiglu_backward_kernel(SwigluGradients<T> to, const T* dy, SwigluInputs<T> inputs, Rows size) {
  const auto n = static_cast<int>(size.width);
  constexpr int N = kEach<kWide, T>;
  for_strips<N>(size, [&](int64_t slice, int64_t row, int64_t end, int column) {
    float gate_sum[N] = {}, up_sum[N] = {};
#pragma unroll 1
    for (; row < end; ++row) {
      float gate[N], up[N], value[N];
      read<kWide>(inputs.gate + row * inputs.stride, column, n, gate);
      read<kWide>(inputs.up + row * inputs.stride, column, n, up);
      read<kWide>(dy + row * n, column, n, value);
      add_bias<kWide>(inputs.gate_bias, column, n, gate);
      add_bias<kWide>(inputs.up_bias, column, n, up);
#pragma unroll
      for (int k = 0; k < N; ++k) {
        const Swiglu f = swiglu_backward(value[k], gate[k], up[k]);
        value[k] = f.value;
        gate[k] = f.gate;
        up[k] = f.up;
        gate_sum[k] += gate[k];
        up_sum[k] += up[k];
      }
      write<kWide>(to.gate + row * to.stride, column, n, gate);
      write<kWide>(to.up + row * to.stride, column, n, up);
      if (to.value != nullptr) write<kWide>(to.value + row * n, column, n, value);
    }
    if (to.gate_sums != nullptr) write<kWide>(to.gate_sums + slice * n, column, n, gate_sum);
    if (to.up_sums != nullptr) write<kWide>(to.up_sums + slice * n, column, n, up_sum);
  });
}

// A block takes a warp's width of columns.
__global__ void __launch_bounds__(kSliceSums* kWarp)
    add_slices_kernel(float* dbias, const float* sums, int64_t slices, int64_t n) {
  __shared__ float shared[kSliceSums][kWarp];
  for (int64_t first = int64_t{blockIdx.x} * kWarp; first < n;
       first += int64_t{gridDim.x} * kWarp) {
    add_slices(dbias, sums, slices, n, first, shared);
  }
}

bool is_empty(Rows size) { return size.rows == 0 || size.width == 0; }

}  // namespace

template <class T>
void launch_gelu(T* y, const T* x, const float* bias, Rows size, Stream stream) {
  if (is_empty(size)) return;
  const bool wide = wide_rows(size.width) && aligned_16(y, x, bias);
  launch(wide ? gelu_kernel<true, T> : gelu_kernel<false, T>, blocks_of<T>(size, wide), stream, y,
         x, bias, size);
}

template <class T>
void launch_gelu_backward(const GeluGradients<T>& to, const T* dy, const T* x, const float* bias,
                          Rows size, Stream stream) {
  if (is_empty(size)) return;
  const bool wide = wide_rows(size.width) && aligned_16(to.x, to.value, to.sums, dy, x, bias);
  launch(wide ? gelu_backward_kernel<true, T> : gelu_backward_kernel<false, T>,
         blocks_of<T>(size, wide), stream, to, dy, x, bias, size);
}

template <class T>
bool allows_wide(const SwigluInputs<T>& inputs, int64_t width) {
  return wide_rows(width) && wide_rows(inputs.stride) &&
         aligned_16(inputs.gate, inputs.up, inputs.gate_bias, inputs.up_bias);
}

template <class T>
void launch_swiglu(T* y, const SwigluInputs<T>& inputs, Rows size, Stream stream) {
  if (is_empty(size)) return;
  const bool wide = allows_wide(inputs, size.width) && aligned_16(y);
  launch(wide ? swiglu_kernel<true, T> : swiglu_kernel<false, T>, blocks_of<T>(size, wide), stream,
         y, inputs, size);
}

template <class T>
void launch_swiglu_backward(const SwigluGradients<T>& to, const T* dy,
                            const SwigluInputs<T>& inputs, Rows size, Stream stream) {
  if (is_empty(size)) return;
  const bool wide = allows_wide(inputs, size.width) && wide_rows(to.stride) &&
                    aligned_16(to.gate, to.up, to.value, to.gate_sums, to.up_sums, dy);
  launch(wide ? swiglu_backward_kernel<true, T> : swiglu_backward_kernel<false, T>,
         blocks_of<T>(size, wide), stream, to, dy, inputs, size);
}

void launch_add_slices(float* dbias, const float* sums, int64_t slices, int64_t width,
                       Stream stream) {
  if (width == 0) return;
  launch(add_slices_kernel, Shape{blocks_for(width, kWarp), kSliceSums * kWarp}, stream, dbias,
         sums, slices, width);
}

#define REV_ACTIVATION_TYPE(T)                                                                  \
  template void launch_gelu(T*, const T*, const float*, Rows, Stream);                          \
  template void launch_gelu_backward(const GeluGradients<T>&, const T*, const T*, const float*, \
                                     Rows, Stream);                                             \
  template void launch_swiglu(T*, const SwigluInputs<T>&, Rows, Stream);                        \
  template void launch_swiglu_backward(const SwigluGradients<T>&, const T*,                     \
                                       const SwigluInputs<T>&, Rows, Stream);
REV_ACTIVATION_TYPE(float)
REV_ACTIVATION_TYPE(BFloat16)
#undef REV_ACTIVATION_TYPE

}  // namespace rev::cuda
