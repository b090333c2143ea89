// Low bits of cells: packing them, the cell that they pick, and products with +-2^-s, which keep
// the bits that they shift out. Element by element, one source for the CPU path and the kernels.
#pragma once

#include <cstdint>

#include "cuda/grid_math.h"
#include "cuda/host_device.h"

namespace rev::cuda {

// Packed: the low `count` bits (1, 2, 4, 8 or 16) of cell i are bits i count to i count + count - 1
// of the array, whose bit b is bit b % 8 of byte b / 8.

/// Bytes that n cells take.
REV_HOST_DEVICE int64_t packed_bytes(int64_t n, int count) { return (n * count + 7) / 8; }

/// What was packed of cell i, in the low `count` bits; the bits above them are others'.
REV_HOST_DEVICE uint32_t packed_at(const uint8_t* packed, int64_t i, int count) {
  if (count == 16) return packed[2 * i] | static_cast<uint32_t>(packed[2 * i + 1]) << 8;
  const int64_t bit = i * count;
  return static_cast<uint32_t>(packed[bit / 8]) >> (bit % 8);
}

/// The cell nearest to `near` whose `count` low bits are those of `low`: the distance to it is
/// -2^(count-1) to 2^(count-1) - 1.
REV_HOST_DEVICE int32_t nearest_cell(int32_t near, uint32_t low, int count) {
  const uint32_t half = 1u << (count - 1), mask = 2u * half - 1u;
  const auto n = static_cast<uint32_t>(near);
  return static_cast<int32_t>(n + ((low - n + half) & mask) - half);
}

// Planes: the s low bits of a row's cells 32 g to 32 g + 31 are words g s to g s + s - 1 of the
// row's words, of which word p holds bit p of each cell, that of cell 32 g + j in bit j.

constexpr int kPlaneCells = 32;  // cells of a word
constexpr int kMostPlanes = 8;

/// Groups of 32 cells in a row; the last may have fewer.
REV_HOST_DEVICE int64_t plane_groups(int64_t width) {
  return (width + kPlaneCells - 1) / kPlaneCells;
}

/// +-floor(y / 2^s); what it loses are the s low bits of y.
REV_HOST_DEVICE int32_t shift_down(int32_t y, int s, bool negative) {
  const int32_t shifted = y >> s;
  return negative ? -shifted : shifted;
}

/// Undoes it: +-y 2^s + low; `out` gathers a 1 where that leaves the range.
REV_HOST_DEVICE int32_t shift_up(int32_t y, uint32_t low, int s, bool negative, uint32_t& out) {
  const int32_t shifted = negative ? grid::negate(y, out) : y;
  const auto cell = static_cast<int32_t>(static_cast<uint32_t>(shifted) << s | low);
  out |= cell >> s == shifted ? 0u : 1u;
  return cell;
}

}  // namespace rev::cuda
