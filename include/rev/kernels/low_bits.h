// The low bits of grid cells, kept apart: to pick a cell from its neighbours, and to undo products
// with +-2^-s, which lose no others.
#pragma once

#include <ATen/core/Tensor.h>
#include <cstdint>

#include "rev/kernels/grid.h"

namespace rev::kernels {

/// The `count` (1, 2, 4, 8 or 16) low bits of every cell, packed into bytes: [..] int32 -> uint8 of
/// ceil(numel count / 8) elements, the first cell's in the lowest bits.
at::Tensor pack_low_bits(const at::Tensor& cells, int64_t count);

/// The cells nearest to `near` whose low bits are those packed: exact where each cell of `near` is
/// less than 2^(count-1) units from the one that was packed. near: contiguous int32, the shape that
/// was packed. sums: where defined, [rows] int64, written: row sums (`row_sums`) of the result.
/// Throws c10::Error where shapes, dtypes or devices do not fit.
at::Tensor select_by_low_bits(const at::Tensor& near, const at::Tensor& packed, int64_t count,
                              const at::Tensor& sums = {});

/// A factor +-2^-places, places from 1 to 8.
struct Shift {
  int64_t places = 1;
  bool negative = false;

  double value() const {
    return (negative ? -1.0 : 1.0) / static_cast<double>(int64_t{1} << places);
  }
};

/// Room for what `shift_down_` keeps of y [..,C]: int32 [rows,ceil(C/32),places], rubbish. A word
/// is one bit of each of 32 neighbouring cells: `places` bits a cell where 32 divides C.
at::Tensor bit_planes(const at::Tensor& y, int64_t places);

/// y <- a y for a = +-2^-s, in place: the midpoint(a) block's a p of arXiv 2512.02056, eq 15, with
/// |a| a power of two; `shift_up_` undoes it.
///
/// On the grid y <- +-floor(y / 2^s), which never leaves the range, and the s bits that this loses
/// go to `planes`, as `bit_planes` gives it: unlike `scale_`'s digits they are of this step alone.
/// Float states use none: their exponent changes. y: contiguous state. Throws c10::Error where
/// shapes, dtypes or devices do not fit.
void shift_down_(at::Tensor& y, const at::Tensor& planes, const Shift& a, const Probe& probe = {});

/// y <- y / a, in place, with the bits that `shift_down_` kept: every bit of y is as before.
/// A cell that leaves the range, as none does that `shift_down_` made, is flagged.
void shift_up_(at::Tensor& y, const at::Tensor& planes, const Shift& a, const Probe& probe = {});

}  // namespace rev::kernels
