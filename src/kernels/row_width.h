// How long rows may be.
#pragma once

#include <c10/util/Exception.h>
#include <cstdint>

namespace rev::kernels {

/// The longest row of the operators whose kernels count columns in 32 bits: norms, activations and
/// losses. A slice of 32 rows (slices_math.h) is then counted so, too.
inline constexpr int64_t kLongestRow = int64_t{1} << 26;

/// Throws c10::Error, with `op` and `name` named, where rows of n elements are too long.
inline void check_row_width(const char* op, const char* name, int64_t n) {
  TORCH_CHECK(n <= kLongestRow, op, ": a row of ", name, " has ", n, " elements, expected at most ",
              kLongestRow);
}

}  // namespace rev::kernels
