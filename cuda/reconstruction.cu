// One pass, integer atomics alone: sums, least and largest of whole numbers are the same in any
// order. The rows that differ pass through the record's places like balls through a row of cups:
// each keeps the least that it has seen and hands the other on.
#include "cuda/launch.h"
#include "cuda/reconstruction.h"
#include "cuda/reconstruction_math.h"
#include "cuda/warp.h"

namespace rev::cuda {
namespace {

using Word = unsigned long long;  // what CUDA's 64-bit atomics take
static_assert(sizeof(Word) == sizeof(int64_t));

// Puts a row among the least of the record, `first` [kFirstRows].
__device__ void insert(Word* first, Word row) {
  for (int k = 0; k < kFirstRows; ++k) {
    const Word held = atomicMin(first + k, row);
    if (held == kNoRow || held == row) return;
    row = max(row, held);
  }
}

__global__ void __launch_bounds__(kBlock)
    compare_kernel(Word* record, const int64_t* a, const int64_t* b, int64_t n, int64_t per_block) {
  __shared__ int of_warp[kWarpsOfBlock];
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int64_t begin = int64_t{blockIdx.x} * per_block;
  const int64_t end = min(begin + per_block, n);
  int64_t found = 0;  // in this block so far; the same in all of its threads
  for (int64_t base = begin; base < end; base += kBlock) {
    const int64_t row = base + threadIdx.x;
    const bool differs = row < end && a[row] != b[row];
    const int here = __syncthreads_count(differs);
    if (here != 0 && found < kFirstRows) {
      const unsigned ballot = __ballot_sync(kAll, differs);
      if (lane == 0) of_warp[warp] = __popc(ballot);
      __syncthreads();
      int64_t rank = found + __popc(ballot & ((1u << lane) - 1u));
      for (int w = 0; w < warp; ++w) rank += of_warp[w];
      if (differs && rank < kFirstRows) insert(record + 2, static_cast<Word>(row));
      // The next pass writes of_warp only behind its __syncthreads_count.
    }
    found += here;
  }
  if (threadIdx.x == 0) {
    atomicAdd(record, static_cast<Word>(max(end - begin, int64_t{0})));
    if (found != 0) atomicAdd(record + 1, static_cast<Word>(found));
  }
}

template <bool kWide>
__global__ void __launch_bounds__(kBlock)
    drift_kernel(unsigned* record, const float* a, const float* b, int64_t n) {
  constexpr int N = kWide ? 4 : 1;
  __shared__ unsigned apart_of[kWarpsOfBlock], largest_of[kWarpsOfBlock];
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int64_t stride = int64_t{gridDim.x} * kBlock * N;
  unsigned apart = 0, largest = 0;
#pragma unroll 1
  for (int64_t i = (int64_t{blockIdx.x} * kBlock + threadIdx.x) * N; i < n; i += stride) {
    float x[N], y[N];
    load(a + i, x);
    load(b + i, y);
#pragma unroll
    for (int j = 0; j < N; ++j) {
      apart = max(apart, magnitude_bits(x[j] - y[j]));
      largest = max(largest, magnitude_bits(x[j]));
    }
  }
  apart = __reduce_max_sync(kAll, apart);
  largest = __reduce_max_sync(kAll, largest);
  if (lane == 0) {
    apart_of[warp] = apart;
    largest_of[warp] = largest;
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    for (int w = 1; w < kWarpsOfBlock; ++w) {
      apart = max(apart, apart_of[w]);
      largest = max(largest, largest_of[w]);
    }
    atomicMax(record, apart);
    atomicMax(record + 1, largest);
  }
}

}  // namespace

void launch_compare_rows(int64_t* record, const int64_t* a, const int64_t* b, int64_t n,
                         Stream stream, unsigned most_blocks) {
  if (n == 0) return;
  const unsigned blocks = std::min(blocks_for(n, kBlock), most_blocks);
  const int64_t per_block = (n + blocks - 1) / blocks;
  launch(compare_kernel, blocks, stream, reinterpret_cast<Word*>(record), a, b, n, per_block);
}

void launch_drift(float* record, const float* a, const float* b, int64_t n, Stream stream,
                  unsigned most_blocks) {
  if (n == 0) return;
  auto* bits = reinterpret_cast<unsigned*>(record);
  if (aligned_16(a, b) && n % 4 == 0) {
    const unsigned blocks = std::min(blocks_for(n, 4 * kBlock), most_blocks);
    launch(drift_kernel<true>, blocks, stream, bits, a, b, n);
  } else {
    const unsigned blocks = std::min(blocks_for(n, kBlock), most_blocks);
    launch(drift_kernel<false>, blocks, stream, bits, a, b, n);
  }
}

}  // namespace rev::cuda
