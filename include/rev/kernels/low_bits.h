#pragma once

#include <ATen/core/Tensor.h>
#include <cstdint>

namespace rev::kernels {

/// The `count` (2, 4, 8 or 16) low bits of every cell, packed into bytes: [..] int32 -> uint8 of
/// ceil(numel count / 8) elements.
at::Tensor pack_low_bits(const at::Tensor& cells, int64_t count);

/// The cells nearest to `near` whose low bits are those packed: exact where each cell of `near` is
/// less than 2^(count-1) units from the one that was packed. near: contiguous int32, the shape that
/// was packed.
at::Tensor select_by_low_bits(const at::Tensor& near, const at::Tensor& packed, int64_t count);

}  // namespace rev::kernels
