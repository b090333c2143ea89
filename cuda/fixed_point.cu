// A warp takes a token. Tokens are shared out to blocks in slices of neighbours, so that the tokens
// that go on can be put together in their order: the first kernel counts a slice's, the second
// knows from the counts where each slice's begin.
#include "cuda/fixed_point.h"
#include "cuda/fixed_point_math.h"
#include "cuda/launch.h"
#include "cuda/low_bits_math.h"
#include "cuda/warp.h"

namespace rev::cuda {
namespace {

constexpr int kCounts = kFixedPointCounts;  // of a slice

template <bool kWide>
__global__ void __launch_bounds__(kBlock)
    gather_kernel(float* values, const int32_t* x, const int64_t* index, float unit, Rows size) {
  constexpr int N = kWide ? 4 : 1;
  const int lane = threadIdx.x % kWarp;
  for (int64_t i = first_row(); i < size.rows; i += rows_apart()) {
    const int32_t* from = x + index[i] * size.width;
    float* to = values + i * size.width;
#pragma unroll 1
    for (int64_t column = int64_t{lane} * N; column < size.width; column += kWarp * N) {
      int32_t cells[N];
      float floats[N];
      load(from + column, cells);
#pragma unroll
      for (int j = 0; j < N; ++j) floats[j] = static_cast<float>(cells[j]) * unit;
      store(to + column, floats);
    }
  }
}

template <bool kWide, class F>
__global__ void __launch_bounds__(kBlock)
    step_kernel(int32_t* x, const int32_t* y, const F* f, float scale, int64_t width,
                FixedPointTokens tokens, FixedPointMoves moves, int64_t per_block, int64_t* moved,
                int64_t* counts) {
  constexpr int N = kWide ? 16 / sizeof(F) : 1;
  __shared__ int64_t of_warp[kWarpsOfBlock][kCounts];
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int64_t begin = int64_t{blockIdx.x} * per_block;
  const int64_t end = min(begin + per_block, tokens.n);
  int64_t going_on = 0, sum_before = 0, sum_now = 0;  // of the warp's tokens, in its first lane
  for (int64_t i = begin + warp; i < end; i += kWarpsOfBlock) {
    const int64_t start = tokens.index[i] * width;
    uint32_t farthest = 0, out = 0;
#pragma unroll 1
    for (int64_t column = int64_t{lane} * N; column < width; column += kWarp * N) {
      int32_t before[N], next[N];
      F increment[N];
      load(x + start + column, before);
      load(y + start + column, next);
      load(f + i * width + column, increment);
#pragma unroll
      for (int j = 0; j < N; ++j) {
        next[j] = grid::update(next[j], widen(increment[j]), scale, out);
        farthest = max(farthest, distance(next[j], before[j]));
      }
      store(x + start + column, next);
    }
    const int64_t move = __reduce_max_sync(kAll, farthest);
    if (lane == 0) {
      moved[i] = move;
      going_on += move > moves.settled ? 1 : 0;
      if (tokens.moved != nullptr && tokens.moved[i] > moves.noise) {
        sum_before += tokens.moved[i];
        sum_now += move;
      }
    }
  }
  if (lane == 0) {
    of_warp[warp][0] = going_on;
    of_warp[warp][1] = sum_before;
    of_warp[warp][2] = sum_now;
  }
  __syncthreads();
  if (threadIdx.x < kCounts) {
    int64_t sum = 0;
    for (int w = 0; w < kWarpsOfBlock; ++w) sum += of_warp[w][threadIdx.x];
    counts[int64_t{blockIdx.x} * kCounts + threadIdx.x] = sum;
  }
}

// The first block sums all slices' counts, every other block those of the tokens before its own.
__global__ void __launch_bounds__(kBlock)
    compact_kernel(FixedPointTokens tokens, FixedPointMoves moves, int64_t per_block,
                   const int64_t* moved, const int64_t* counts, FixedPointStep step) {
  __shared__ uint64_t of_warp[kWarpsOfBlock][kCounts];
  __shared__ int going_on_of[kWarpsOfBlock];
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const unsigned slices = blockIdx.x == 0 ? gridDim.x : blockIdx.x;
  uint64_t sum[kCounts] = {};
  for (unsigned slice = threadIdx.x; slice < slices; slice += kBlock) {
#pragma unroll
    for (int c = 0; c < kCounts; ++c) {
      sum[c] += static_cast<uint64_t>(counts[int64_t{slice} * kCounts + c]);
    }
  }
#pragma unroll
  for (int c = 0; c < kCounts; ++c) {
    sum[c] = warp_sum(sum[c]);
    if (lane == 0) of_warp[warp][c] = sum[c];
  }
  __syncthreads();
  int64_t place = 0;  // of the slice's next token that goes on
  if (blockIdx.x != 0) {
    for (int w = 0; w < kWarpsOfBlock; ++w) place += static_cast<int64_t>(of_warp[w][0]);
  } else if (threadIdx.x < kCounts) {
    uint64_t total = 0;
    for (int w = 0; w < kWarpsOfBlock; ++w) total += of_warp[w][threadIdx.x];
    step.record[threadIdx.x] = static_cast<int64_t>(total);
  }
  const int64_t begin = int64_t{blockIdx.x} * per_block;
  const int64_t end = min(begin + per_block, tokens.n);
  for (int64_t base = begin; base < end; base += kBlock) {  // by all threads alike
    const int64_t i = base + threadIdx.x;
    const bool goes_on = i < end && moved[i] > moves.settled;
    const unsigned ballot = __ballot_sync(kAll, goes_on);
    if (lane == 0) going_on_of[warp] = __popc(ballot);
    __syncthreads();
    int64_t rank = place + __popc(ballot & ((1u << lane) - 1u));
    for (int w = 0; w < kWarpsOfBlock; ++w) {
      if (w < warp) rank += going_on_of[w];
      place += going_on_of[w];
    }
    if (goes_on) {
      step.index[rank] = tokens.index[i];
      step.moved[rank] = moved[i];
    }
    __syncthreads();
  }
}

template <bool kWide, class F>
__global__ void __launch_bounds__(kBlock)
    correct_kernel(int32_t* x, const int32_t* y, const F* f, float scale, const uint8_t* packed,
                   int count, Rows size, const int64_t* expected, int64_t* sums) {
  constexpr int N = kWide ? 16 / sizeof(F) : 1;
  const int lane = threadIdx.x % kWarp;
  for (int64_t row = first_row(); row < size.rows; row += rows_apart()) {
    const bool refuted = sums[row] != expected[row];
    __syncwarp();  // every lane has read the sum that the first will write
    if (!refuted) continue;
    uint64_t sum = 0;
    uint32_t out = 0;
#pragma unroll 1
    for (int64_t column = int64_t{lane} * N; column < size.width; column += kWarp * N) {
      const int64_t offset = row * size.width + column;
      int32_t cells[N];
      F increment[N];
      load(y + offset, cells);
      load(f + offset, increment);
#pragma unroll
      for (int j = 0; j < N; ++j) {
        const int32_t near = grid::update(cells[j], widen(increment[j]), scale, out);
        cells[j] = nearest_cell(near, packed_at(packed, offset + j, count), count);
        sum += uint64_t{grid::weight(static_cast<uint32_t>(column + j))} *
               static_cast<uint32_t>(cells[j]);
      }
      store(x + offset, cells);
    }
    sum = warp_sum(sum);
    if (lane == 0) sums[row] = static_cast<int64_t>(sum);
  }
}

unsigned slices_for(int64_t n) { return std::min(blocks_for(n, kWarpsOfBlock), kMostSlices); }

}  // namespace

void launch_gather_cells(float* values, const int32_t* x, const int64_t* index, float unit,
                         Rows size, Stream stream) {
  if (size.rows == 0 || size.width == 0) return;
  const unsigned blocks = blocks_for(size.rows, kWarpsOfBlock);
  if (aligned_16(values, x) && size.width % 4 == 0) {
    launch(gather_kernel<true>, blocks, stream, values, x, index, unit, size);
  } else {
    launch(gather_kernel<false>, blocks, stream, values, x, index, unit, size);
  }
}

template <class F>
void launch_fixed_point_step(int32_t* x, const int32_t* y, const F* f, float scale, int64_t width,
                             const FixedPointTokens& tokens, const FixedPointMoves& moves,
                             const FixedPointStep& step, Stream stream, unsigned most_slices) {
  // One slice for no tokens, too: a record is written.
  const unsigned slices = std::max(std::min(slices_for(tokens.n), most_slices), 1u);
  const int64_t per_block = (tokens.n + slices - 1) / slices;
  int64_t* moved = step.scratch;
  int64_t* counts = step.scratch + tokens.n;
  const bool wide = aligned_16(x, y, f) && width % static_cast<int64_t>(16 / sizeof(F)) == 0;
  launch(wide ? step_kernel<true, F> : step_kernel<false, F>, slices, stream, x, y, f, scale, width,
         tokens, moves, per_block, moved, counts);
  launch(compact_kernel, slices, stream, tokens, moves, per_block, moved, counts, step);
}

template <class F>
void launch_correct_cells(int32_t* x, const int32_t* y, const F* f, float scale,
                          const uint8_t* packed, int count, Rows size, const int64_t* expected,
                          int64_t* sums, Stream stream) {
  if (size.rows == 0 || size.width == 0) return;
  const bool wide = aligned_16(x, y, f) && size.width % static_cast<int64_t>(16 / sizeof(F)) == 0;
  launch(wide ? correct_kernel<true, F> : correct_kernel<false, F>,
         blocks_for(size.rows, kWarpsOfBlock), stream, x, y, f, scale, packed, count, size,
         expected, sums);
}

#define REV_FIELD_TYPE(F)                                                                       \
  template void launch_fixed_point_step(int32_t*, const int32_t*, const F*, float, int64_t,     \
                                        const FixedPointTokens&, const FixedPointMoves&,        \
                                        const FixedPointStep&, Stream, unsigned);               \
  template void launch_correct_cells(int32_t*, const int32_t*, const F*, float, const uint8_t*, \
                                     int, Rows, const int64_t*, int64_t*, Stream);
REV_FIELD_TYPE(float)
REV_FIELD_TYPE(BFloat16)

}  // namespace rev::cuda
