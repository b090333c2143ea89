// What operators on states share: a state's rows, their sums, and what is asked of its arguments.
#pragma once

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "cuda/grid.h"
#include "kernels/vectors.h"
#include "rev/kernels/grid.h"

namespace rev::kernels {

inline int64_t row_length(const at::Tensor& y) { return y.dim() == 0 ? 1 : y.size(-1); }

inline int64_t row_count(const at::Tensor& y) {
  const int64_t n = row_length(y);
  return n == 0 ? 0 : y.numel() / n;
}

inline cuda::Rows rows_of(const at::Tensor& y) { return {row_count(y), row_length(y)}; }

/// The factor c 2^bits that makes cells of values, and the unit 2^-bits of a cell.
inline float scale_of(double c, int64_t bits) {
  return static_cast<float>(std::ldexp(c, static_cast<int>(bits)));
}
inline float unit_of(int64_t bits) { return std::ldexp(1.0f, static_cast<int>(-bits)); }

/// Rows of n elements that are worth a thread.
inline int64_t grain_of_rows(int64_t n) {
  return std::max<int64_t>(1, kGrain / std::max<int64_t>(n, 1));
}

/// The weights of a row's n words in its sum.
std::vector<uint32_t> row_weights(int64_t n);

/// sum_j weight_j x_j modulo 2^64.
uint64_t sum_row(const uint32_t* x, const uint32_t* weight, int64_t n);

/// The field's value as the grid reads it: float32 or bfloat16, contiguous, without its graph.
at::Tensor as_increment(const at::Tensor& f);

/// Rows of such a value as float32.
class FloatRows {
 public:
  explicit FloatRows(const at::Tensor& f);

  /// The n elements from `offset` on: in the value, or in this thread's memory until its next call.
  const float* row(int64_t offset, int64_t n) const;

 private:
  const float* floats_;
  const uint16_t* bfloats_;
};

/// The pointers of a probe, null where a member is undefined.
cuda::Probe pointers(const Probe& probe);

// Throw c10::Error with `op` named: where y is no contiguous state; where x, called `name`, has not
// y's shape and device; where x is not a second state like y; where f is no field value for y;
// where the row sums, or the members of a probe, do not fit y; where bits are no grid's.
void check_state(const char* op, const at::Tensor& y);
void check_like(const char* op, const char* name, const at::Tensor& y, const at::Tensor& x);
void check_other_state(const char* op, const at::Tensor& y, const at::Tensor& x);
void check_field(const char* op, const at::Tensor& y, const at::Tensor& f);
void check_sums(const char* op, const at::Tensor& y, const at::Tensor& sums);
void check_probe(const char* op, const at::Tensor& y, const Probe& probe);
void check_bits(const char* op, int64_t bits);

/// Runs body(row, offset, n) -> flag over the rows of y, int32 words, with the row sums that are
/// asked for around it, and notes a flag that is not 0.
template <class Body>
void for_rows(const at::Tensor& y, const Probe& probe, const Body& body) {
  const int64_t rows = row_count(y), n = row_length(y);
  const auto* words = reinterpret_cast<const uint32_t*>(y.const_data_ptr<int32_t>());
  const cuda::Probe to = pointers(probe);
  at::parallel_for(0, rows, grain_of_rows(n), [&](int64_t begin, int64_t end) {
    std::vector<uint32_t> weights;
    if (to.before != nullptr || to.after != nullptr) weights = row_weights(n);
    const auto sum = [&](int64_t* sums, int64_t row) {
      if (sums != nullptr)
        sums[row] = static_cast<int64_t>(sum_row(words + row * n, weights.data(), n));
    };
    uint32_t out = 0;
    for (int64_t row = begin; row < end; ++row) {
      sum(to.before, row);
      out |= body(row, row * n, n);
      sum(to.after, row);
    }
    // Every thread writes the same value.
    if (out != 0 && to.saturated != nullptr) __atomic_store_n(to.saturated, 1, __ATOMIC_RELAXED);
  });
}

}  // namespace rev::kernels
