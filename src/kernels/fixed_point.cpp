#include "rev/kernels/fixed_point.h"

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <algorithm>

#include "cuda/fixed_point.h"
#include "cuda/fixed_point_math.h"
#include "cuda/low_bits_math.h"
#include "kernels/device.h"
#include "kernels/rows.h"

namespace rev::kernels {
namespace {

using at::Tensor;

REV_VECTOR_WIDTHS void value_row(float* values, const int32_t* x, int64_t n, float unit) {
  for (int64_t j = 0; j < n; ++j) values[j] = static_cast<float>(x[j]) * unit;
}

// The largest move of a cell.
REV_VECTOR_WIDTHS uint32_t iterate_row(int32_t* x, const int32_t* y, const float* f, int64_t n,
                                       float scale) {
  uint32_t farthest = 0, out = 0;
  for (int64_t j = 0; j < n; ++j) {
    const int32_t next = grid::update(y[j], f[j], scale, out);
    farthest = std::max(farthest, cuda::distance(next, x[j]));
    x[j] = next;
  }
  return farthest;
}

REV_VECTOR_WIDTHS void near_row(int32_t* near, const int32_t* y, const float* f, int64_t n,
                                float scale) {
  uint32_t out = 0;
  for (int64_t j = 0; j < n; ++j) near[j] = grid::update(y[j], f[j], scale, out);
}

void check_grid(const char* op, const char* name, const Tensor& y) {
  check_type_of_device(op, y.device());
  TORCH_CHECK(y.scalar_type() == at::kInt && y.is_contiguous(), op, ": ", name,
              " must be a contiguous int32 state, got ", y.scalar_type(), " with strides ",
              y.strides());
}

void check_numbers(const char* op, const char* name, const Tensor& t, int64_t n,
                   c10::Device device) {
  TORCH_CHECK(t.scalar_type() == at::kLong && t.dim() == 1 && t.size(0) == n && t.is_contiguous() &&
                  t.device() == device,
              op, ": ", name, " must be contiguous int64 [", n, "] on ", device, ", got ",
              t.sizes(), " of ", t.scalar_type(), " on ", t.device());
}

// int64 to work with: the moves of n tokens, and what the kernels need beside them.
int64_t scratch_words(int64_t n) {
  if constexpr (kHasCuda) return cuda::fixed_point_scratch(n);
  return n;
}

}  // namespace

Tensor gather_values(const Tensor& x, const Tensor& index, int64_t bits) {
  constexpr const char* kOp = "gather_values";
  check_grid(kOp, "x", x);
  check_bits(kOp, bits);
  check_numbers(kOp, "the index", index, index.numel(), x.device());
  const int64_t n = index.numel(), width = row_length(x);
  Tensor values = at::empty({n, width}, x.options().dtype(at::kFloat));
  auto* to = values.data_ptr<float>();
  const int32_t* cells = x.const_data_ptr<int32_t>();
  const int64_t* rows = index.const_data_ptr<int64_t>();
  const auto launch = [&](auto stream) {
    cuda::launch_gather_cells(to, cells, rows, unit_of(bits), {n, width}, stream);
  };
  if (on_device(kOp, x, launch)) return values;
  at::parallel_for(0, n, grain_of_rows(width), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      value_row(to + i * width, cells + rows[i] * width, width, unit_of(bits));
    }
  });
  return values;
}

Stepped iterate_(Tensor& x, const Tensor& y, const Tensor& f, int64_t bits, const Iterated& tokens,
                 const MoveLimits& limits) {
  constexpr const char* kOp = "iterate_";
  check_grid(kOp, "x", x);
  check_grid(kOp, "y", y);
  check_like(kOp, "y", x, y);
  check_bits(kOp, bits);
  const int64_t n = tokens.index.numel(), width = row_length(x);
  check_numbers(kOp, "the index", tokens.index, n, x.device());
  if (tokens.moved.defined()) check_numbers(kOp, "the moves", tokens.moved, n, x.device());
  TORCH_CHECK(at::isFloatingType(f.scalar_type()) && f.dim() == 2 && f.size(0) == n &&
                  f.size(1) == width && f.device() == x.device(),
              kOp, ": the field's value must be floating point [", n, ", ", width, "] on ",
              x.device(), ", got ", f.sizes(), " of ", f.scalar_type(), " on ", f.device());
  const Tensor g = as_increment(f);
  const float scale = scale_of(-1.0, bits);
  int32_t* cells = x.data_ptr<int32_t>();
  const int32_t* constants = y.const_data_ptr<int32_t>();
  const int64_t* rows = tokens.index.const_data_ptr<int64_t>();
  const int64_t* before = pointer_or_null<const int64_t>(tokens.moved);

  // One array: the index and the moves of those that are left, three numbers, and room to work.
  constexpr int64_t kNumbers = 3;
  const Tensor all = at::empty({2 * n + kNumbers + scratch_words(n)}, tokens.index.options());
  auto* left = all.mutable_data_ptr<int64_t>();
  int64_t* left_moved = left + n;
  int64_t* numbers = left + 2 * n;
  int64_t* scratch = numbers + kNumbers;
  const auto found = [&](const int64_t* read) {
    return Stepped{{all.narrow(0, 0, read[0]), all.narrow(0, n, read[0])}, read[1], read[2]};
  };
  const auto launch = [&](auto stream) {
    with_float(g, [&](const auto* increments) {
      cuda::launch_fixed_point_step(cells, constants, increments, scale, width, {rows, before, n},
                                    {limits.settled, limits.noise},
                                    {left, left_moved, numbers, scratch}, stream);
    });
  };
  if (on_device(kOp, x, launch)) {
    const Tensor here = all.narrow(0, 2 * n, kNumbers).cpu();
    return found(here.const_data_ptr<int64_t>());
  }

  const FloatRows values(g);
  at::parallel_for(0, n, grain_of_rows(width), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      scratch[i] = iterate_row(cells + rows[i] * width, constants + rows[i] * width,
                               values.row(i * width, width), width, scale);
    }
  });
  std::fill_n(numbers, kNumbers, 0);
  for (int64_t i = 0; i < n; ++i) {
    if (before != nullptr && before[i] > limits.noise) {
      numbers[1] += before[i];
      numbers[2] += scratch[i];
    }
    if (scratch[i] <= limits.settled) continue;
    left[numbers[0]] = rows[i];
    left_moved[numbers[0]++] = scratch[i];
  }
  return found(numbers);
}

void correct_(Tensor& x, const Tensor& y, const Tensor& f, int64_t bits, const Tensor& packed,
              int64_t count, const Tensor& expected, Tensor& sums) {
  constexpr const char* kOp = "correct_";
  check_grid(kOp, "x", x);
  check_grid(kOp, "y", y);
  check_like(kOp, "y", x, y);
  check_field(kOp, x, f);
  check_bits(kOp, bits);
  check_sums(kOp, x, expected);
  check_sums(kOp, x, sums);
  TORCH_CHECK(count == 1 || count == 2 || count == 4 || count == 8 || count == 16, kOp,
              ": the count of low bits must be 1, 2, 4, 8 or 16, got ", count);
  const auto low = static_cast<int>(count);
  TORCH_CHECK(packed.scalar_type() == at::kByte && packed.is_contiguous() &&
                  packed.numel() == cuda::packed_bytes(x.numel(), low) &&
                  packed.device() == x.device(),
              kOp, ": for ", x.sizes(), " and ", count, " bits a cell expected ",
              cuda::packed_bytes(x.numel(), low), " contiguous bytes on ", x.device(), ", got ",
              packed.sizes(), " of ", packed.scalar_type(), " on ", packed.device());
  const Tensor g = as_increment(f);
  const float scale = scale_of(-1.0, bits);
  int32_t* cells = x.data_ptr<int32_t>();
  const int32_t* constants = y.const_data_ptr<int32_t>();
  const auto* bytes = packed.const_data_ptr<uint8_t>();
  const int64_t* right = expected.const_data_ptr<int64_t>();
  auto* now = sums.data_ptr<int64_t>();
  const auto launch = [&](auto stream) {
    with_float(g, [&](const auto* increments) {
      cuda::launch_correct_cells(cells, constants, increments, scale, bytes, low, rows_of(x), right,
                                 now, stream);
    });
  };
  if (on_device(kOp, x, launch)) return;
  const FloatRows values(g);
  const int64_t n = row_length(x);
  at::parallel_for(0, row_count(x), grain_of_rows(n), [&](int64_t begin, int64_t end) {
    std::vector<uint32_t> weights;
    for (int64_t row = begin; row < end; ++row) {
      if (now[row] == right[row]) continue;
      if (weights.empty()) weights = row_weights(n);
      int32_t* at_row = cells + row * n;
      near_row(at_row, constants + row * n, values.row(row * n, n), n, scale);
      for (int64_t j = 0; j < n; ++j) {  // few rows come here
        at_row[j] = cuda::nearest_cell(at_row[j], cuda::packed_at(bytes, row * n + j, low), low);
      }
      now[row] = static_cast<int64_t>(
          sum_row(reinterpret_cast<const uint32_t*>(at_row), weights.data(), n));
    }
  });
}

}  // namespace rev::kernels
