// The sort is a counting sort in three passes: blocks count the experts in their tiles of slots;
// each expert's counts become places within its rows; blocks put their slots there. Within a tile a
// warp has a stretch of slots and takes them 32 at a time, so that slots of one expert keep their
// order.
//
// The copies and sums are one warp a row.
#include "cuda/dispatch.h"
#include "cuda/launch.h"
#include "cuda/router_math.h"
#include "cuda/row.h"
#include "cuda/warp.h"

namespace rev::cuda {
namespace {

constexpr int kStretch = 8 * kWarp;              // slots of a warp
constexpr int kTile = kWarpsOfBlock * kStretch;  // of a block

int64_t tiles_of(int64_t slots) { return (slots + kTile - 1) / kTile; }

// counts [E, tiles].
__global__ void __launch_bounds__(kBlock)
    count_kernel(int32_t* counts, const int32_t* experts, int64_t slots, int n_experts,
                 int64_t tiles) {
  __shared__ int32_t count[kMostExperts];
  for (int64_t tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
    for (int e = threadIdx.x; e < n_experts; e += kBlock) count[e] = 0;
    __syncthreads();
    for (int i = threadIdx.x; i < kTile; i += kBlock) {
      const int64_t slot = tile * kTile + i;
      if (slot < slots) atomicAdd(&count[nearest_expert(experts[slot], n_experts)], 1);
    }
    __syncthreads();
    for (int e = threadIdx.x; e < n_experts; e += kBlock) counts[e * tiles + tile] = count[e];
  }
}

// counts [E, tiles] <- the expert's slots in the tiles before; totals [E]. A warp has an expert.
__global__ void __launch_bounds__(kBlock)
    place_tiles_kernel(int32_t* counts, int32_t* totals, int n_experts, int64_t tiles) {
  const int lane = threadIdx.x % kWarp;
  const int expert = (blockIdx.x * kBlock + threadIdx.x) / kWarp;
  if (expert >= n_experts) return;
  int32_t* const own = counts + expert * tiles;
  int before = 0;
  for (int64_t first = 0; first < tiles; first += kWarp) {
    const int64_t tile = first + lane;
    const int count = tile < tiles ? own[tile] : 0;
    const int sum = sum_up_to_lane(count);
    if (tile < tiles) own[tile] = before + sum - count;
    before += __shfl_sync(kAll, sum, kWarp - 1);
  }
  if (lane == 0) totals[expert] = before;
}

__global__ void __launch_bounds__(kBlock)
    place_slots_kernel(int32_t* offsets, int32_t* order, int32_t* rows, const int32_t* places,
                       const int32_t* totals, const int32_t* experts, int64_t slots, int n_experts,
                       int64_t tiles) {
  __shared__ int32_t offset[kMostExperts];  // the first row of an expert
  // The row of a warp's next slot of an expert.
  __shared__ int32_t next[kWarpsOfBlock][kMostExperts];
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  if (warp == 0) {
    int before = 0;
    for (int first = 0; first < n_experts; first += kWarp) {
      const int e = first + lane;
      const int total = e < n_experts ? totals[e] : 0;
      const int sum = sum_up_to_lane(total);
      if (e < n_experts) {
        offset[e] = before + sum - total;
        if (blockIdx.x == 0) offsets[e] = before + sum - total;
      }
      before += __shfl_sync(kAll, sum, kWarp - 1);
    }
    if (blockIdx.x == 0 && lane == 0) offsets[n_experts] = before;
  }
  for (int64_t tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
    const int64_t stretch = tile * kTile + warp * kStretch;
    for (int e = lane; e < n_experts; e += kWarp) next[warp][e] = 0;
    __syncwarp();
    for (int i = lane; i < kStretch; i += kWarp) {
      if (stretch + i < slots) {
        atomicAdd(&next[warp][nearest_expert(experts[stretch + i], n_experts)], 1);
      }
    }
    __syncthreads();
    for (int e = threadIdx.x; e < n_experts; e += kBlock) {
      int row = offset[e] + places[e * tiles + tile];
      for (int w = 0; w < kWarpsOfBlock; ++w) {
        const int count = next[w][e];
        next[w][e] = row;
        row += count;
      }
    }
    __syncthreads();
    for (int i = 0; i < kStretch; i += kWarp) {
      const int64_t slot = stretch + i + lane;
      const bool inside = slot < slots;
      const int expert = inside ? nearest_expert(experts[slot], n_experts) : 0;
      const unsigned same = lanes_with(expert, n_experts, inside);
      const unsigned before = same & ((1u << lane) - 1);
      int row = 0;
      if (inside) {
        row = next[warp][expert] + __popc(before);
        order[row] = static_cast<int32_t>(slot);
        rows[slot] = row;
      }
      __syncwarp();  // all have read where their expert's rows begin
      if (inside && before == 0) next[warp][expert] = row + __popc(same);
      __syncwarp();
    }
  }
}

// N: elements of a lane at a time.
template <int N, class F>
__global__ void __launch_bounds__(kBlock)
    dispatch_kernel(F* y, const F* x, const int32_t* order, Dispatch size) {
  const int lane = threadIdx.x % kWarp;
  const int64_t n_rows = size.tokens * size.chosen;
  for (int64_t row = first_row(); row < n_rows; row += rows_apart()) {
    const F* from = x + int64_t{order[row] / size.chosen} * size.width;
    F* to = y + row * size.width;
#pragma unroll 4
    for (int64_t column = int64_t{lane} * N; column < size.width; column += kWarp * N) {
      F values[N];
      load(from + column, values);
      store(to + column, values);
    }
  }
}

template <int N, bool kWeighted, class F>
// Four blocks a multiprocessor are enough: for more the compiler would keep numbers in memory.
__global__ void __launch_bounds__(kBlock, 4)
    combine_kernel(F* y, const F* x, const float* weights, const int32_t* rows, Dispatch size) {
  const int lane = threadIdx.x % kWarp;
  for (int64_t token = first_row(); token < size.tokens; token += rows_apart()) {
    // Lane j keeps slot j's row and weight.
    const int64_t slot = token * size.chosen + lane;
    const bool has_slot = lane < size.chosen;
    const int own_row = has_slot ? rows[slot] : 0;
    const float own_weight = kWeighted && has_slot ? weights[slot] : 0.0f;
    for (int64_t start = 0; start < size.width; start += kWarp * N) {
      const int64_t column = start + lane * N;
      float sum[N] = {};
#pragma unroll 4
      for (int j = 0; j < size.chosen; ++j) {
        const int64_t row = __shfl_sync(kAll, own_row, j);
        const float weight = kWeighted ? __shfl_sync(kAll, own_weight, j) : 1.0f;
        if (column < size.width) {
          F values[N];
          load(x + row * size.width + column, values);
#pragma unroll
          for (int i = 0; i < N; ++i) {
            sum[i] += kWeighted ? weight * widen(values[i]) : widen(values[i]);
          }
        }
      }
      if (column < size.width) {
        F values[N];
#pragma unroll
        for (int i = 0; i < N; ++i) values[i] = narrow<F>(sum[i]);
        store(y + token * size.width + column, values);
      }
    }
  }
}

template <bool kWide, class F>
__global__ void __launch_bounds__(kBlock)
    combine_backward_kernel(F* dx, float* dweights, const F* dy, const F* x, const float* weights,
                            const int32_t* order, Dispatch size) {
  const int lane = threadIdx.x % kWarp;
  const int64_t n_rows = size.tokens * size.chosen;
  for (int64_t row = first_row(); row < n_rows; row += rows_apart()) {
    const int slot = order[row];
    const float weight = weights[slot];
    const F* gradients = dy + int64_t{slot / size.chosen} * size.width;
    float sum[kLaneSums] = {};
#pragma unroll 1
    for (int64_t column = int64_t{lane} * kLaneSums; column < size.width;
         column += kWarp * kLaneSums) {
      float gradient[kLaneSums], value[kLaneSums];
      load_floats<kWide>(gradients, column, size.width, gradient);
      load_floats<kWide>(x + row * size.width, column, size.width, value);
#pragma unroll
      for (int i = 0; i < kLaneSums; ++i) {
        sum[i] += gradient[i] * value[i];
        gradient[i] = weight * gradient[i];
      }
      store_floats<kWide>(dx + row * size.width, column, size.width, gradient);
    }
    const float total = ordered_warp_sum(sum);
    if (lane == 0) dweights[slot] = total;
  }
}

}  // namespace

int64_t sort_scratch(int64_t slots, int experts) { return experts * (tiles_of(slots) + 1); }

void launch_sort_by_expert(int32_t* offsets, int32_t* order, int32_t* rows, int32_t* scratch,
                           const int32_t* experts, int64_t slots, int n_experts, Stream stream) {
  const int64_t tiles = tiles_of(slots);
  if (tiles == 0) {
    const std::size_t bytes = sizeof(int32_t) * (static_cast<std::size_t>(n_experts) + 1);
    REV_CUDA_CHECK(cudaMemsetAsync(offsets, 0, bytes, stream));
    return;
  }
  int32_t* const counts = scratch;
  int32_t* const totals = scratch + n_experts * tiles;
  const unsigned blocks = blocks_for(tiles, 1);
  launch(count_kernel, blocks, stream, counts, experts, slots, n_experts, tiles);
  launch(place_tiles_kernel, blocks_for(n_experts, kWarpsOfBlock), stream, counts, totals,
         n_experts, tiles);
  launch(place_slots_kernel, blocks, stream, offsets, order, rows, counts, totals, experts, slots,
         n_experts, tiles);
}

template <class F>
void launch_dispatch(F* y, const F* x, const int32_t* order, const Dispatch& size, Stream stream) {
  constexpr int kWidest = 16 / sizeof(F);
  if (size.tokens == 0 || size.width == 0) return;
  const unsigned blocks = blocks_for(size.tokens * size.chosen, kWarpsOfBlock);
  if (aligned_16(y, x) && size.width % kWidest == 0) {
    launch(dispatch_kernel<kWidest, F>, blocks, stream, y, x, order, size);
  } else {
    launch(dispatch_kernel<1, F>, blocks, stream, y, x, order, size);
  }
}

template <class F>
void launch_combine(F* y, const F* x, const float* weights, const int32_t* rows,
                    const Dispatch& size, Stream stream) {
  constexpr int kWidest = 16 / sizeof(F);
  if (size.tokens == 0 || size.width == 0) return;
  const bool wide = aligned_16(y, x) && size.width % kWidest == 0;
  const auto kernel =
      weights != nullptr ? (wide ? combine_kernel<kWidest, true, F> : combine_kernel<1, true, F>)
                         : (wide ? combine_kernel<kWidest, false, F> : combine_kernel<1, false, F>);
  launch(kernel, blocks_for(size.tokens, kWarpsOfBlock), stream, y, x, weights, rows, size);
}

template <class F>
void launch_combine_backward(F* dx, float* dweights, const F* dy, const F* x, const float* weights,
                             const int32_t* order, const Dispatch& size, Stream stream) {
  if (size.tokens == 0) return;
  const bool wide = aligned_16(dx, dy, x) && wide_rows(size.width);
  launch(wide ? combine_backward_kernel<true, F> : combine_backward_kernel<false, F>,
         blocks_for(size.tokens * size.chosen, kWarpsOfBlock), stream, dx, dweights, dy, x, weights,
         order, size);
}

#define REV_ROW_TYPE(F)                                                                     \
  template void launch_dispatch(F*, const F*, const int32_t*, const Dispatch&, Stream);     \
  template void launch_combine(F*, const F*, const float*, const int32_t*, const Dispatch&, \
                               Stream);                                                     \
  template void launch_combine_backward(F*, float*, const F*, const F*, const float*,       \
                                        const int32_t*, const Dispatch&, Stream);
REV_ROW_TYPE(float)
REV_ROW_TYPE(BFloat16)

}  // namespace rev::cuda
