// Cells are read and written in 128-bit accesses, their low bits in what is left of a group of
// cells: a byte or more a lane where they are packed, a word of each plane from 32 neighbouring
// cells where they are shifted out.
#include "cuda/launch.h"
#include "cuda/low_bits.h"
#include "cuda/low_bits_math.h"
#include "cuda/warp.h"

namespace rev::cuda {
namespace {

// The cells of a lane, whose low bits fill whole bytes, and the unsigned number that they fill.
template <int kCount>
struct Group {
  static constexpr int kCells = kCount == 1 ? 8 : 4;
  static constexpr int kBytes = kCells * kCount / 8;
  using Word =
      std::conditional_t<kBytes == 1, uint8_t,
                         std::conditional_t<kBytes == 2, uint16_t,
                                            std::conditional_t<kBytes == 4, uint32_t, uint64_t>>>;
};

template <int kCount>
__device__ __forceinline__ uint64_t low_bits(int32_t cell) {
  return static_cast<uint32_t>(cell) & ((1u << kCount) - 1u);
}

template <bool kWide, int kCount>
__global__ void __launch_bounds__(kBlock)
    pack_kernel(uint8_t* packed, const int32_t* cells, int64_t n) {
  using G = Group<kCount>;
  const int64_t groups = (n + G::kCells - 1) / G::kCells, bytes = packed_bytes(n, kCount);
  const int64_t stride = int64_t{gridDim.x} * kBlock;
#pragma unroll 1
  for (int64_t g = int64_t{blockIdx.x} * kBlock + threadIdx.x; g < groups; g += stride) {
    const int64_t first = g * G::kCells;
    uint64_t word = 0;
    if (kWide && first + G::kCells <= n) {
      int32_t values[G::kCells];
      load(cells + first, values);
#pragma unroll
      for (int j = 0; j < G::kCells; ++j) word |= low_bits<kCount>(values[j]) << (j * kCount);
      reinterpret_cast<typename G::Word*>(packed)[g] = static_cast<typename G::Word>(word);
    } else {
#pragma unroll
      for (int j = 0; j < G::kCells; ++j) {
        if (first + j < n) word |= low_bits<kCount>(cells[first + j]) << (j * kCount);
      }
#pragma unroll
      for (int b = 0; b < G::kBytes; ++b) {
        const int64_t at = g * G::kBytes + b;
        if (at < bytes) packed[at] = static_cast<uint8_t>(word >> (8 * b));
      }
    }
  }
}

template <bool kWide, int kCount>
__global__ void __launch_bounds__(kBlock)
    select_kernel(int32_t* x, const int32_t* near, const uint8_t* packed, Rows size,
                  int64_t* sums) {
  using G = Group<kCount>;
  constexpr int N = kWide ? G::kCells : 1;
  const int lane = threadIdx.x % kWarp;
  for (int64_t row = first_row(); row < size.rows; row += rows_apart()) {
    uint64_t sum = 0;
#pragma unroll 1
    for (int64_t column = int64_t{lane} * N; column < size.width; column += kWarp * N) {
      const int64_t offset = row * size.width + column;
      int32_t cells[N];
      load(near + offset, cells);
      if constexpr (kWide) {
        const uint64_t word = reinterpret_cast<const typename G::Word*>(packed)[offset / N];
#pragma unroll
        for (int j = 0; j < N; ++j) {
          cells[j] = nearest_cell(cells[j], static_cast<uint32_t>(word >> (j * kCount)), kCount);
        }
      } else {
        cells[0] = nearest_cell(cells[0], packed_at(packed, offset, kCount), kCount);
      }
      store(x + offset, cells);
      if (sums != nullptr) {
#pragma unroll
        for (int j = 0; j < N; ++j) {
          sum += uint64_t{grid::weight(static_cast<uint32_t>(column + j))} *
                 static_cast<uint32_t>(cells[j]);
        }
      }
    }
    if (sums != nullptr) {
      sum = warp_sum(sum);
      if (lane == 0) sums[row] = static_cast<int64_t>(sum);
    }
  }
}

// The word of a plane that the lanes of a group make: `bits` are those of the lane's N cells.
template <int N>
__device__ __forceinline__ uint32_t gather_word(uint32_t bits) {
  if constexpr (N == 1) return __ballot_sync(kAll, static_cast<int>(bits));
  uint32_t word = bits << (threadIdx.x % (kPlaneCells / N) * N);
#pragma unroll
  for (int lanes = 1; lanes < kPlaneCells / N; lanes *= 2) {
    word |= __shfl_xor_sync(kAll, word, lanes);
  }
  return word;
}

// A warp takes a row, a lane N cells at a time, kPlaneCells / N lanes a group of which each keeps
// or brings the word of one plane.
template <int N, bool kUp>
__global__ void __launch_bounds__(kBlock)
    shift_kernel(int32_t* y, uint32_t* planes, Shift a, Rows size, Probe probe) {
  constexpr int kLanes = kPlaneCells / N;
  const int lane = threadIdx.x % kWarp, place = lane % kLanes;
  const int64_t groups = plane_groups(size.width);
  const bool sums = probe.before != nullptr || probe.after != nullptr;
  uint32_t out = 0;
  for (int64_t row = first_row(); row < size.rows; row += rows_apart()) {
    uint64_t before = 0, after = 0;
#pragma unroll 1
    for (int64_t base = 0; base < size.width; base += kWarp * N) {  // by all lanes alike
      const int64_t column = base + lane * N, offset = row * size.width + column;
      const bool inside = column < size.width;  // wide rows have whole lanes
      const int64_t word_at = (row * groups + column / kPlaneCells) * a.places + place;
      const bool has_word = place < a.places && column / kPlaneCells < groups;
      int32_t cells[N] = {};
      if (inside) load(y + offset, cells);
      uint32_t low[N] = {};
      uint32_t kept = kUp && has_word ? planes[word_at] : 0u;
      for (int p = 0; p < a.places; ++p) {
        if constexpr (kUp) {
          const uint32_t bits = __shfl_sync(kAll, kept, p, kLanes) >> (place * N);
#pragma unroll
          for (int j = 0; j < N; ++j) low[j] |= (bits >> j & 1u) << p;
        } else {
          uint32_t bits = 0;
#pragma unroll
          for (int j = 0; j < N; ++j) bits |= (static_cast<uint32_t>(cells[j]) >> p & 1u) << j;
          const uint32_t word = gather_word<N>(bits);
          kept = place == p ? word : kept;
        }
      }
      if (!kUp && has_word) planes[word_at] = kept;
      if (!inside) continue;
      int32_t changed[N];
#pragma unroll
      for (int j = 0; j < N; ++j) {
        changed[j] = kUp ? shift_up(cells[j], low[j], a.places, a.negative, out)
                         : shift_down(cells[j], a.places, a.negative);
      }
      store(y + offset, changed);
      if (sums) {
#pragma unroll
        for (int j = 0; j < N; ++j) {
          const uint64_t weight = grid::weight(static_cast<uint32_t>(column + j));
          before += weight * static_cast<uint32_t>(cells[j]);
          after += weight * static_cast<uint32_t>(changed[j]);
        }
      }
    }
    if (sums) {
      before = warp_sum(before);
      after = warp_sum(after);
      if (lane == 0 && probe.before != nullptr) probe.before[row] = static_cast<int64_t>(before);
      if (lane == 0 && probe.after != nullptr) probe.after[row] = static_cast<int64_t>(after);
    }
  }
  if (out != 0 && probe.saturated != nullptr) atomicOr(probe.saturated, 1);
}

// body(std::integral_constant<int, count>).
template <class Body>
void with_count(int count, const Body& body) {
  switch (count) {
    case 1:
      return body(std::integral_constant<int, 1>());
    case 2:
      return body(std::integral_constant<int, 2>());
    case 4:
      return body(std::integral_constant<int, 4>());
    case 8:
      return body(std::integral_constant<int, 8>());
    default:
      return body(std::integral_constant<int, 16>());
  }
}

template <bool kUp>
void launch_shift(int32_t* y, uint32_t* planes, Shift a, Rows size, const Probe& probe,
                  Stream stream) {
  if (size.rows == 0 || size.width == 0) return;
  const unsigned blocks = blocks_for(size.rows, kWarpsOfBlock);
  if (aligned_16(y) && size.width % 4 == 0) {
    launch(shift_kernel<4, kUp>, blocks, stream, y, planes, a, size, probe);
  } else {
    launch(shift_kernel<1, kUp>, blocks, stream, y, planes, a, size, probe);
  }
}

}  // namespace

void launch_pack_low_bits(uint8_t* packed, const int32_t* cells, int64_t n, int count,
                          Stream stream) {
  if (n == 0) return;
  with_count(count, [&](auto c) {
    constexpr int kCells = Group<c.value>::kCells;
    const unsigned blocks = blocks_for(n, int64_t{kCells} * kBlock);
    if (aligned_16(packed, cells)) {
      launch(pack_kernel<true, c.value>, blocks, stream, packed, cells, n);
    } else {
      launch(pack_kernel<false, c.value>, blocks, stream, packed, cells, n);
    }
  });
}

void launch_select_by_low_bits(int32_t* x, const int32_t* near, const uint8_t* packed, int count,
                               Rows size, int64_t* sums, Stream stream) {
  if (size.rows == 0 || size.width == 0) return;
  const unsigned blocks = blocks_for(size.rows, kWarpsOfBlock);
  with_count(count, [&](auto c) {
    if (aligned_16(x, near, packed) && size.width % Group<c.value>::kCells == 0) {
      launch(select_kernel<true, c.value>, blocks, stream, x, near, packed, size, sums);
    } else {
      launch(select_kernel<false, c.value>, blocks, stream, x, near, packed, size, sums);
    }
  });
}

void launch_shift_down(int32_t* y, uint32_t* planes, Shift a, Rows size, const Probe& probe,
                       Stream stream) {
  launch_shift<false>(y, planes, a, size, probe, stream);
}

void launch_shift_up(int32_t* y, const uint32_t* planes, Shift a, Rows size, const Probe& probe,
                     Stream stream) {
  // It writes no plane.
  launch_shift<true>(y, const_cast<uint32_t*>(planes), a, size, probe, stream);
}

}  // namespace rev::cuda
