// A warp takes a row: each lane reads cells, changes them and writes them back, adding up the row's
// weighted words before and after on the way, so that the proof costs no traffic of its own. What
// is done to a cell is an operation: a small type that reads its own operands.
#include "cuda/grid.h"
#include "cuda/grid_math.h"
#include "cuda/grid_ops.h"
#include "cuda/launch.h"
#include "cuda/warp.h"

namespace rev::cuda {
namespace {

// Operations that nothing else needs; what one is, and the others: grid_ops.h.

struct Encode {
  static constexpr int kWidest = 4;
  static constexpr bool kReads = false, kWrites = true;
  const float* x;
  float scale;

  template <int N>
  __device__ void operator()(int32_t (&y)[N], int64_t offset, uint32_t& out) const {
    float value[N];
    load(x + offset, value);
#pragma unroll
    for (int j = 0; j < N; ++j) y[j] = grid::to_cell(value[j] * scale, out);
  }
};

template <class D, bool kUndo>
struct Scale {
  static constexpr int kWidest = 4;
  static constexpr bool kReads = true, kWrites = true;
  D* digits;
  Ratio a;

  template <int N>
  __device__ void operator()(int32_t (&y)[N], int64_t offset, uint32_t& out) const {
    D buffer[N];
    load(digits + offset, buffer);
#pragma unroll
    for (int j = 0; j < N; ++j) {
      uint64_t d = buffer[j];
      if (kUndo && a.negative) y[j] = grid::negate(y[j], out);
      y[j] = grid::rescale(y[j], d, kUndo ? a.m : a.n, kUndo ? a.n : a.m, out);
      if (!kUndo && a.negative) y[j] = grid::negate(y[j], out);
      buffer[j] = static_cast<D>(d);
    }
    store(digits + offset, buffer);
  }
};

struct Sign {
  static constexpr int kWidest = 4;
  static constexpr bool kReads = true, kWrites = true;
  bool negative;

  template <int N>
  __device__ void operator()(int32_t (&y)[N], int64_t, uint32_t& out) const {
#pragma unroll
    for (int j = 0; j < N; ++j) y[j] = negative ? grid::negate(y[j], out) : y[j];
  }
};

struct Keep {
  static constexpr int kWidest = 4;
  static constexpr bool kReads = true, kWrites = false;

  template <int N>
  __device__ void operator()(int32_t (&)[N], int64_t, uint32_t&) const {}
};

template <int N, class Op>
__global__ void __launch_bounds__(kBlock) rows_kernel(int32_t* y, Op op, Rows size, Probe probe) {
  const int lane = threadIdx.x % kWarp;
  const bool sums = probe.before != nullptr || probe.after != nullptr;
  uint32_t out = 0;
  for (int64_t row = first_row(); row < size.rows; row += rows_apart()) {
    uint64_t before = 0, after = 0;
#pragma unroll 1  // a lane's N cells are enough in flight, and divisions unrolled would spill
    for (int64_t column = int64_t{lane} * N; column < size.width; column += kWarp * N) {
      const int64_t offset = row * size.width + column;
      int32_t cells[N] = {};
      uint32_t weights[N] = {};
      if (sums) {
#pragma unroll
        for (int j = 0; j < N; ++j) weights[j] = grid::weight(static_cast<uint32_t>(column + j));
      }
      if (Op::kReads) {
        load(y + offset, cells);
        if (sums) add_words(before, cells, weights);
      }
      op(cells, offset, out);
      if (Op::kWrites) {
        if (sums) add_words(after, cells, weights);
        store(y + offset, cells);
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

template <class Op>
void launch_rows(int32_t* y, const Op& op, Rows size, const Probe& probe, bool aligned,
                 Stream stream) {
  if (size.rows == 0 || size.width == 0) return;
  const unsigned blocks = blocks_for(size.rows, kWarpsOfBlock);
  if (aligned && size.width % Op::kWidest == 0) {
    launch(rows_kernel<Op::kWidest, Op>, blocks, stream, y, op, size, probe);
  } else {
    launch(rows_kernel<1, Op>, blocks, stream, y, op, size, probe);
  }
}

template <int N>
__global__ void __launch_bounds__(kBlock)
    decode_kernel(float* x, const int32_t* y, float unit, int64_t n) {
  const int64_t stride = int64_t{gridDim.x} * kBlock * N;
  for (int64_t i = (int64_t{blockIdx.x} * kBlock + threadIdx.x) * N; i < n; i += stride) {
    int32_t cells[N];
    float values[N];
    load(y + i, cells);
#pragma unroll
    for (int j = 0; j < N; ++j) values[j] = static_cast<float>(cells[j]) * unit;
    store(x + i, values);
  }
}

}  // namespace

void launch_encode(int32_t* y, const float* x, float scale, Rows size, const Probe& probe,
                   Stream stream) {
  launch_rows(y, Encode{x, scale}, size, probe, aligned_16(y, x), stream);
}

void launch_decode(float* x, const int32_t* y, float unit, int64_t n, Stream stream) {
  if (n == 0) return;
  if (aligned_16(x, y) && n % 4 == 0) {
    launch(decode_kernel<4>, blocks_for(n, 4 * kBlock), stream, x, y, unit, n);
  } else {
    launch(decode_kernel<1>, blocks_for(n, kBlock), stream, x, y, unit, n);
  }
}

template <class F>
void launch_update(int32_t* y, const F* f, float scale, Rows size, const Probe& probe,
                   Stream stream) {
  launch_rows(y, Update<F>{f, scale}, size, probe, aligned_16(y, f), stream);
}

template <class F>
void launch_reflect(int32_t* y, const int32_t* x, const F* f, float scale, Rows size,
                    const Probe& probe, Stream stream) {
  launch_rows(y, Reflect<F>{x, f, scale}, size, probe, aligned_16(y, x, f), stream);
}

template <class F>
void launch_blend(int32_t* y, const int32_t* x, float b, const F* f, float scale, Rows size,
                  const Probe& probe, Stream stream) {
  launch_rows(y, Blend<F>{x, b, f, scale}, size, probe, aligned_16(y, x, f), stream);
}

template <class D>
void launch_scale(int32_t* y, D* digits, const Ratio& a, Rows size, const Probe& probe,
                  Stream stream) {
  launch_rows(y, Scale<D, false>{digits, a}, size, probe, aligned_16(y, digits), stream);
}

template <class D>
void launch_unscale(int32_t* y, D* digits, const Ratio& a, Rows size, const Probe& probe,
                    Stream stream) {
  launch_rows(y, Scale<D, true>{digits, a}, size, probe, aligned_16(y, digits), stream);
}

void launch_sign(int32_t* y, bool negative, Rows size, const Probe& probe, Stream stream) {
  launch_rows(y, Sign{negative}, size, probe, aligned_16(y), stream);
}

void launch_row_sums(int64_t* sums, const int32_t* words, Rows size, Stream stream) {
  // Keep writes no cell.
  launch_rows(const_cast<int32_t*>(words), Keep{}, size, {sums, nullptr, nullptr},
              aligned_16(words), stream);
}

#define REV_FIELD_TYPE(F)                                                                          \
  template void launch_update(int32_t*, const F*, float, Rows, const Probe&, Stream);              \
  template void launch_reflect(int32_t*, const int32_t*, const F*, float, Rows, const Probe&,      \
                               Stream);                                                            \
  template void launch_blend(int32_t*, const int32_t*, float, const F*, float, Rows, const Probe&, \
                             Stream);
REV_FIELD_TYPE(float)
REV_FIELD_TYPE(BFloat16)

#define REV_DIGIT_TYPE(D)                                                             \
  template void launch_scale(int32_t*, D*, const Ratio&, Rows, const Probe&, Stream); \
  template void launch_unscale(int32_t*, D*, const Ratio&, Rows, const Probe&, Stream);
REV_DIGIT_TYPE(uint32_t)
REV_DIGIT_TYPE(uint64_t)

}  // namespace rev::cuda
