#include "kernels/slices.h"

#include <ATen/Parallel.h>
#include <algorithm>

#include "cuda/slices_math.h"
#include "kernels/rows.h"
#include "kernels/vectors.h"

namespace rev::kernels {
namespace {

using cuda::kSliceSums;

constexpr int64_t kColumns = 64;  // at a time: with all running sums, 8 KiB

REV_VECTOR_WIDTHS void add_columns(float* to, const float* parts, int64_t slices, int64_t n,
                                   int64_t count) {
  float sums[kSliceSums][kColumns] = {};
  for (int64_t slice = 0; slice < slices; ++slice) {
    float* sum = sums[slice % kSliceSums];
    const float* part = parts + slice * n;
    for (int64_t j = 0; j < count; ++j) sum[j] += part[j];
  }
  for (int64_t half = kSliceSums / 2; half > 0; half /= 2) {
    for (int64_t k = 0; k < half; ++k) {
      for (int64_t j = 0; j < kColumns; ++j) sums[k][j] += sums[k + half][j];
    }
  }
  std::copy(sums[0], sums[0] + count, to);
}

}  // namespace

void add_slices(float* to, const float* parts, int64_t slices, int64_t n) {
  const int64_t blocks = (n + kColumns - 1) / kColumns;
  at::parallel_for(0, blocks, grain_of_rows(kColumns * slices), [&](int64_t begin, int64_t end) {
    for (int64_t first = begin * kColumns; first < std::min(n, end * kColumns); first += kColumns) {
      add_columns(to + first, parts + first, slices, n, std::min(kColumns, n - first));
    }
  });
}

}  // namespace rev::kernels
