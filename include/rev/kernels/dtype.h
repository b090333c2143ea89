// Floats of this room's operators.
//
// Note [Same bits]: where an operator has the same bits on every device, whether a result is NaN is
// the same, and not which NaN: IEEE leaves that open, and a GPU makes another than the CPU. Where
// NaN would end in whole numbers, or one more comparison costs nothing, one is made of all.
#pragma once

#include <c10/core/ScalarType.h>

namespace rev::kernels {

/// Whether the operators of this room that compute with floats take the dtype: float32 and
/// bfloat16. Callers leave others, float64 among them, to ATen.
inline bool is_kernel_float(c10::ScalarType dtype) {
  return dtype == c10::ScalarType::Float || dtype == c10::ScalarType::BFloat16;
}

}  // namespace rev::kernels
