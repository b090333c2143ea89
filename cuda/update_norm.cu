// A warp takes a row: it changes the cells as grid.cu does, keeps them as numbers and takes the
// norm of those (norm_row.h). Row sums are always taken, which needs fewer registers than a choice.
#include "cuda/grid_math.h"
#include "cuda/grid_ops.h"
#include "cuda/launch.h"
#include "cuda/norm_row.h"
#include "cuda/row.h"
#include "cuda/update_norm.h"
#include "cuda/warp.h"

namespace rev::cuda {
namespace {

// Row sums before and after, and whether a cell left the range.
struct Seen {
  uint64_t before = 0, after = 0;
  uint32_t out = 0;
};

// N cells at `offset`, `column` in their row: changed by `op` and, as numbers, in `values`.
template <int N, class Op>
__device__ __forceinline__ void change_cells(int32_t* y, const Op& op, int64_t offset, int column,
                                             float unit, Seen& seen, float* values) {
  int32_t cells[N];
  load(y + offset, cells);
  uint32_t weights[N];
#pragma unroll
  for (int k = 0; k < N; ++k) weights[k] = grid::weight(static_cast<uint32_t>(column + k));
  add_words(seen.before, cells, weights);
  op(cells, offset, seen.out);
  add_words(seen.after, cells, weights);
  store(y + offset, cells);
#pragma unroll
  for (int k = 0; k < N; ++k) values[k] = static_cast<float>(cells[k]) * unit;
}

template <bool kWide, class Op>
__global__ void __launch_bounds__(kBlock, kRowBlocks)
    update_norm_kernel(int32_t* y, Op op, StateNorm made, Rows size, Probe probe, float inverse,
                       bool keeps) {
  REV_DYNAMIC_SHARED(float, shared);
  const int n = static_cast<int>(size.width);
  const KeptRow kept(keeps ? shared : nullptr, n);
  Seen seen;
  for (int64_t row = first_row(); row < size.rows; row += rows_apart()) {
    seen.before = seen.after = 0;
    const auto change = [&](int column, float(&values)[kLaneSums]) {
      const int64_t offset = row * n + column;
      if constexpr (kWide) {
        constexpr int N = Op::kWidest;
#pragma unroll
        for (int k = 0; k < kLaneSums; k += N) {
          change_cells<N>(y, op, offset + k, column + k, made.unit, seen, values + k);
        }
      } else {
#pragma unroll
        for (int k = 0; k < kLaneSums; ++k) {
          values[k] = 0.0f;
          if (column + k < n) {
            change_cells<1>(y, op, offset + k, column + k, made.unit, seen, values + k);
          }
        }
      }
      write_floats<kWide>(made.value, row, column, n, values);
    };
    const auto again = [&](int column, float(&values)[kLaneSums]) {  // what this lane wrote
      int32_t cells[kLaneSums] = {};
      if constexpr (kWide) {
        load(y + row * n + column, cells);
      } else {
#pragma unroll
        for (int k = 0; k < kLaneSums; ++k) {
          if (column + k < n) cells[k] = y[row * n + column + k];
        }
      }
#pragma unroll
      for (int k = 0; k < kLaneSums; ++k) values[k] = static_cast<float>(cells[k]) * made.unit;
    };
    norm_row<kWide>(made.y, made.moments, row, n, made.norm, inverse, kept, change, again);
    const uint64_t before = warp_sum(seen.before), after = warp_sum(seen.after);
    if (threadIdx.x % kWarp == 0) {
      if (probe.before != nullptr) probe.before[row] = static_cast<int64_t>(before);
      if (probe.after != nullptr) probe.after[row] = static_cast<int64_t>(after);
    }
  }
  if (seen.out != 0 && probe.saturated != nullptr) atomicOr(probe.saturated, 1);
}

template <class Op>
void launch_op(int32_t* y, const Op& op, const StateNorm& made, Rows size, const Probe& probe,
               bool aligned, Stream stream) {
  if (size.rows == 0 || size.width == 0) return;
  const bool wide = aligned && wide_rows(size.width) &&
                    aligned_16(y, made.value.as_float, made.value.as_bfloat16, made.y.as_float,
                               made.y.as_bfloat16, made.norm.weight, made.norm.bias);
  const std::size_t kept = kept_bytes(size.width);
  launch(wide ? update_norm_kernel<true, Op> : update_norm_kernel<false, Op>,
         Shape{blocks_for(size.rows, kWarpsOfBlock), kBlock, kept}, stream, y, op, made, size,
         probe, inverse_width(size.width), kept != 0);
}

}  // namespace

template <class F>
void launch_update_norm(int32_t* y, const F* f, float scale, const StateNorm& made, Rows size,
                        const Probe& probe, Stream stream) {
  launch_op(y, Update<F>{f, scale}, made, size, probe, aligned_16(f), stream);
}

template <class F>
void launch_reflect_norm(int32_t* y, const int32_t* x, const F* f, float scale,
                         const StateNorm& made, Rows size, const Probe& probe, Stream stream) {
  launch_op(y, Reflect<F>{x, f, scale}, made, size, probe, aligned_16(x, f), stream);
}

template <class F>
void launch_blend_norm(int32_t* y, const int32_t* x, float b, const F* f, float scale,
                       const StateNorm& made, Rows size, const Probe& probe, Stream stream) {
  launch_op(y, Blend<F>{x, b, f, scale}, made, size, probe, aligned_16(x, f), stream);
}

#define REV_FIELD_TYPE(F)                                                                        \
  template void launch_update_norm(int32_t*, const F*, float, const StateNorm&, Rows,            \
                                   const Probe&, Stream);                                        \
  template void launch_reflect_norm(int32_t*, const int32_t*, const F*, float, const StateNorm&, \
                                    Rows, const Probe&, Stream);                                 \
  template void launch_blend_norm(int32_t*, const int32_t*, float, const F*, float,              \
                                  const StateNorm&, Rows, const Probe&, Stream);
REV_FIELD_TYPE(float)
REV_FIELD_TYPE(BFloat16)

}  // namespace rev::cuda
