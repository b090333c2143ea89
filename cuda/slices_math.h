// Sums over rows, for the gradients of parameters that all rows share. They have two stages: slices
// of kSliceRows rows, in each of which a column's terms are added to 0 from the first row to the
// last, in float32; then ordered_sum<kSliceLanes> (sum_math.h) of the slices' sums.
#pragma once

#include <cstdint>

#include "cuda/host_device.h"
#include "cuda/sum_math.h"

namespace rev::cuda {

constexpr int64_t kSliceRows = 32;
constexpr int kSliceLanes = 4;
constexpr int kSliceSums = kLaneSums * kSliceLanes;  // running sums of a column

/// Slices of `rows` rows.
REV_HOST_DEVICE int64_t slices_of(int64_t rows) { return (rows + kSliceRows - 1) / kSliceRows; }

}  // namespace rev::cuda
