// Products by fractions on the grid: which fraction stands for a number, and how wide the buffer of
// kept digits (kernels::scale_) must be for a whole stack.
#pragma once

#include <ATen/core/Tensor.h>
#include <vector>

#include "rev/kernels/grid.h"

namespace rev::schemes {

/// The fraction +-n / 2^8 nearest to a, in lowest terms. Throws c10::Error unless 1/512 < |a| <
/// 65536.
kernels::Ratio nearest_ratio(double a);

/// The dtype, int32 or int64, of a buffer that holds the digits through scale_ by each of `ratios`
/// in turn, or ScalarType::Undefined where no digit is ever lost. `what` names the list in the
/// message.
///
/// With d < D before a product by n/m, d < ceil(D / n) m after it. Throws c10::Error where 64 bits
/// do not suffice, naming the product at which that happens.
at::ScalarType plan_digits(const std::vector<kernels::Ratio>& ratios, const char* what);

}  // namespace rev::schemes
