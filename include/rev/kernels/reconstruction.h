// How far rebuilt states are from those of forward, as numbers that gather on the device: the host
// need not wait for each comparison and reads a record once, when it wants to know.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>
#include <cstdint>
#include <vector>

namespace rev::kernels {

/// What comparisons of row sums found.
struct RowRecord {
  int64_t compared = 0;        ///< rows
  int64_t differing = 0;       ///< of them
  std::vector<int64_t> first;  ///< the least indices of rows that differed, 8 at most, ascending
};

/// n empty records for `compare_rows`, int64 [n,10]: a slot for each layer of a pass, say.
at::Tensor new_row_records(int64_t n, c10::Device device);

/// Adds the comparison of a and b, row sums int64 [N], to `record`, and returns it: a slot of
/// `new_row_records`, contiguous int64 [10]; a new one where it is undefined.
///
/// The record is {rows compared, rows that differ, their least indices, -1 where there are fewer}.
/// An index that several comparisons found is named once. The host does not wait; the record does
/// not depend on any order. Throws c10::Error where shapes, dtypes or devices do not fit.
at::Tensor compare_rows(const at::Tensor& a, const at::Tensor& b, const at::Tensor& record = {});

/// A record's content; waits for the device.
RowRecord read_row_record(const at::Tensor& record);

/// How far float states are apart. NaN or infinity where a state has such elements.
struct Drift {
  double largest = 0.0;   ///< max |a - b|
  double relative = 0.0;  ///< max |a - b| / max |a|; 0 where a = b
};

/// Raises `record`, [2] of a's dtype, to {max |a - b|, max |a|}, and returns it; a new one, of
/// zeros, where it is undefined.
///
/// a, b: float32 or float64 of one shape and dtype. Differences are rounded in that dtype; maxima
/// are exact, and NaN counts as the largest, so that it stays. One pass (float64 on CUDA: ATen's
/// operators); the host does not wait. Throws c10::Error where shapes, dtypes or devices do not
/// fit.
at::Tensor drift(const at::Tensor& a, const at::Tensor& b, const at::Tensor& record = {});

/// A record's content; waits for the device.
Drift read_drift(const at::Tensor& record);

}  // namespace rev::kernels
