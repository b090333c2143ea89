// A thread takes whole groups of four numbers, as many as make a 128-bit access: no mask is read or
// written, backward draws it again.
#include "cuda/dropout.h"
#include "cuda/launch.h"
#include "cuda/philox_math.h"
#include "cuda/warp.h"

namespace rev::cuda {
namespace {

constexpr int kGroup = 4;  // numbers of a counter

// The stream, with what lies in device memory read.
__device__ __forceinline__ Philox resolved(Philox from) {
  if (from.offset_at != nullptr) from.offset += static_cast<uint64_t>(*from.offset_at);
  return from;
}

// Numbers of the N elements from i on; i and N are multiples of kGroup.
template <int N>
__device__ __forceinline__ void draw(const Philox& from, int64_t i, uint32_t (&numbers)[N]) {
#pragma unroll
  for (int g = 0; g < N / kGroup; ++g) {
    uint32_t* word = numbers + g * kGroup;
    philox_numbers(from.seed, from.offset, static_cast<uint64_t>(i / kGroup + g), word[0], word[1],
                   word[2], word[3]);
  }
}

template <bool kWide, class T>
__global__ void __launch_bounds__(kBlock)
    dropout_kernel(T* y, const T* x, int64_t n, Kept keep, Philox given) {
  constexpr int N = kWide ? 16 / sizeof(T) : kGroup;
  const Philox from = resolved(given);
  const int64_t stride = int64_t{gridDim.x} * kBlock * N;
#pragma unroll 1
  for (int64_t i = (int64_t{blockIdx.x} * kBlock + threadIdx.x) * N; i < n; i += stride) {
    uint32_t numbers[N];
    draw(from, i, numbers);
    if (kWide && i + N <= n) {
      T values[N];
      load(x + i, values);
#pragma unroll
      for (int j = 0; j < N; ++j) {
        values[j] = narrow<T>(keep_scaled(widen(values[j]), numbers[j], keep));
      }
      store(y + i, values);
    } else {
#pragma unroll
      for (int j = 0; j < N; ++j) {
        if (i + j < n) y[i + j] = narrow<T>(keep_scaled(widen(x[i + j]), numbers[j], keep));
      }
    }
  }
}

template <bool kWide>
__global__ void __launch_bounds__(kBlock)
    mask_kernel(uint8_t* mask, int64_t n, uint32_t threshold, Philox given) {
  constexpr int N = kWide ? 16 : kGroup;
  const Philox from = resolved(given);
  const int64_t stride = int64_t{gridDim.x} * kBlock * N;
#pragma unroll 1
  for (int64_t i = (int64_t{blockIdx.x} * kBlock + threadIdx.x) * N; i < n; i += stride) {
    uint32_t numbers[N];
    draw(from, i, numbers);
    uint8_t kept[N];
#pragma unroll
    for (int j = 0; j < N; ++j) kept[j] = numbers[j] < threshold ? 1 : 0;
    if (kWide && i + N <= n) {
      store(mask + i, kept);
    } else {
#pragma unroll
      for (int j = 0; j < N; ++j) {
        if (i + j < n) mask[i + j] = kept[j];
      }
    }
  }
}

}  // namespace

template <class T>
void launch_dropout(T* y, const T* x, int64_t n, const Kept& keep, const Philox& from,
                    Stream stream) {
  if (n == 0) return;
  if (aligned_16(y, x)) {
    constexpr int64_t kCells = 16 / sizeof(T);
    launch(dropout_kernel<true, T>, blocks_for(n, kCells * kBlock), stream, y, x, n, keep, from);
  } else {
    launch(dropout_kernel<false, T>, blocks_for(n, kGroup * kBlock), stream, y, x, n, keep, from);
  }
}

void launch_dropout_mask(uint8_t* mask, int64_t n, uint32_t threshold, const Philox& from,
                         Stream stream) {
  if (n == 0) return;
  if (aligned_16(mask)) {
    launch(mask_kernel<true>, blocks_for(n, 16 * kBlock), stream, mask, n, threshold, from);
  } else {
    launch(mask_kernel<false>, blocks_for(n, kGroup * kBlock), stream, mask, n, threshold, from);
  }
}

template void launch_dropout(float*, const float*, int64_t, const Kept&, const Philox&, Stream);
template void launch_dropout(BFloat16*, const BFloat16*, int64_t, const Kept&, const Philox&,
                             Stream);

}  // namespace rev::cuda
