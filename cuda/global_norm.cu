// A block takes a slice. Which tensor it is of stands in a table that is an argument of the kernel.
// Then one block adds the slices' sums.
#include <algorithm>

#include "cuda/block.h"
#include "cuda/global_norm.h"
#include "cuda/global_norm_math.h"
#include "cuda/launch.h"
#include "cuda/warp.h"

namespace rev::cuda {
namespace {

static_assert(kNormLanes == kBlock, "a block takes a slice");

template <class T>
struct Table {
  struct Entry {
    NormTensor<T> tensor;
    int64_t first;  // of its slices
  };
  static constexpr int kMost = 120;  // 4096 bytes of arguments are passed
  Entry entries[kMost];
  int64_t slices;
  int count;
};

// The eight elements from p on, of which `left` exist; 0 beyond.
template <class T>
__device__ __forceinline__ void load_or_zero(const T* p, int64_t left, bool wide,
                                             float (&values)[kLaneSums]) {
  T raw[kLaneSums];
  if (wide && left >= kLaneSums) {
    load(p, raw);
  } else {
#pragma unroll
    for (int k = 0; k < kLaneSums; ++k) raw[k] = k < left ? p[k] : T{};
  }
#pragma unroll
  for (int k = 0; k < kLaneSums; ++k) values[k] = widen(raw[k]);
}

template <class T>
__global__ void __launch_bounds__(kBlock)
    square_sums_kernel(const __grid_constant__ Table<T> table) {
  __shared__ Exchange<kBlock> exchange;
  for (int64_t slice = blockIdx.x; slice < table.slices; slice += gridDim.x) {
    const auto& entry = table.entries[entry_of(table.entries, table.count, slice)];
    const NormTensor<T>& t = entry.tensor;
    const int64_t number = slice - entry.first;
    const T* x = t.x + number * kNormSlice;
    const int64_t n = min(t.n - number * kNormSlice, kNormSlice);
    const bool wide = (reinterpret_cast<uintptr_t>(x) & 15) == 0;
    float sum[kLaneSums] = {};
    for (int64_t i = int64_t{threadIdx.x} * kLaneSums; i < n; i += kBlock * kLaneSums) {
      float values[kLaneSums];
      load_or_zero(x + i, n - i, wide, values);
#pragma unroll
      for (int k = 0; k < kLaneSums; ++k) sum[k] += values[k] * values[k];
    }
    const float total = ordered_row_sum<kBlock>(sum, exchange);
    if (threadIdx.x == 0) t.sums[number] = total;
  }
}

__global__ void __launch_bounds__(kBlock)
    global_norm_kernel(float* norm, float* factor, int32_t* not_finite, const float* sums,
                       int64_t slices, float most) {
  constexpr int kOwn = kNormSums / kBlock;
  __shared__ LongSum shared[kBlock];
  const int thread = static_cast<int>(threadIdx.x);
  LongSum own[kOwn] = {};  // running sums thread, thread + kBlock, ...
  for (int64_t first = 0; first < slices; first += kNormSums) {
#pragma unroll
    for (int j = 0; j < kOwn; ++j) {
      const int64_t i = first + j * kBlock + thread;
      if (i < slices) own[j] = add(own[j], {sums[i], 0.0f});
    }
  }
#pragma unroll
  for (int half = kOwn / 2; half > 0; half /= 2) {
#pragma unroll
    for (int j = 0; j < half; ++j) own[j] = add(own[j], own[j + half]);
  }
  shared[thread] = own[0];
  for (int half = kBlock / 2; half > 0; half /= 2) {
    __syncthreads();
    if (thread < half) shared[thread] = add(shared[thread], shared[thread + half]);
  }
  if (thread != 0) return;
  const float value = norm_of(shared[0]);
  *norm = value;
  *factor = clip_factor(value, most);
  if (not_finite != nullptr && !(value < INFINITY)) *not_finite = 1;
}

}  // namespace

template <class T>
void launch_square_sums(const NormTensor<T>* tensors, int64_t count, Stream stream) {
  static_assert(sizeof(Table<T>) <= 4096);
  Table<T> table{};
  const auto flush = [&] {
    if (table.slices != 0) {
      launch(square_sums_kernel<T>, blocks_for(table.slices, 1), stream, table);
    }
    table = Table<T>{};
  };
  for (int64_t i = 0; i < count; ++i) {
    if (tensors[i].n == 0) continue;
    if (table.count == Table<T>::kMost) flush();
    table.entries[table.count++] = {tensors[i], table.slices};
    table.slices += (tensors[i].n + kNormSlice - 1) / kNormSlice;
  }
  flush();
}

void launch_global_norm(float* norm, float* factor, int32_t* not_finite, const float* sums,
                        int64_t slices, float most, Stream stream) {
  launch(global_norm_kernel, 1u, stream, norm, factor, not_finite, sums, slices, most);
}

template void launch_square_sums(const NormTensor<float>*, int64_t, Stream);
template void launch_square_sums(const NormTensor<BFloat16>*, int64_t, Stream);

}  // namespace rev::cuda
