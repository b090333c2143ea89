// Launchers of the kernels of low bits (low_bits.cu); the formats are low_bits_math.h's. Pointers
// and streams as in grid.h.
#pragma once

#include <cstdint>

#include "cuda/grid.h"
#include "cuda/stream.h"

namespace rev::cuda {

/// packed [packed_bytes(n, count)] = the low bits of n cells; bits beyond them are 0. count: 1, 2,
/// 4, 8 or 16.
void launch_pack_low_bits(uint8_t* packed, const int32_t* cells, int64_t n, int count,
                          Stream stream);

/// x = the cells nearest to `near` whose low bits are the packed ones; sums [rows] = the row sums
/// of x, where not null. x and near may be the same.
void launch_select_by_low_bits(int32_t* x, const int32_t* near, const uint8_t* packed, int count,
                               Rows size, int64_t* sums, Stream stream);

/// A factor +-2^-places; places from 1 to 8.
struct Shift {
  int places;
  bool negative;
};

/// y <- +-floor(y / 2^s), and planes [rows, plane_groups(width), s] = the bits that this loses.
void launch_shift_down(int32_t* y, uint32_t* planes, Shift a, Rows size, const Probe& probe,
                       Stream stream);

/// Undoes it; reads the planes.
void launch_shift_up(int32_t* y, const uint32_t* planes, Shift a, Rows size, const Probe& probe,
                     Stream stream);

}  // namespace rev::cuda
