// The iteration of RevFFN's fixed point (arXiv 2512.20920) on the grid: X1 = Y1 - f(X1, X2) from
// X1 = Y1, where each token, a row of X1, is iterated until it settles.
#pragma once

#include <ATen/core/Tensor.h>
#include <cstdint>

namespace rev::kernels {

/// Tokens that are iterated.
struct Iterated {
  at::Tensor index;  ///< [N] int64: rows of x, each once
  at::Tensor moved;  ///< [N] int64: the largest move of a cell in the step before; or undefined
};

/// Moves of a token, in cells.
struct MoveLimits {
  int64_t settled = 1;  ///< the largest with which it counts as settled
  int64_t noise = 16;   ///< the largest that is rounding rather than f's contraction
};

/// What a step found.
struct Stepped {
  Iterated left;  ///< the tokens that moved by more than `settled`, in their order

  /// Over all tokens that had moved by more than `noise` in the step before: the sum of these
  /// moves, and the sum of the moves in this step; zeros where there was none before. Their ratio
  /// says how f contracts.
  int64_t moved_before = 0;
  int64_t moved_now = 0;
};

/// The values x[index] of rows of x, as `decode` gives them: [N,C] float32.
///
/// x: contiguous grid state [..,C]; index: [N] int64, rows of x, not checked to be inside.
at::Tensor gather_values(const at::Tensor& x, const at::Tensor& index, int64_t bits);

/// x[r] <- y[r] - rint(f[i] 2^bits) for the rows r = tokens.index[i], in place.
///
/// x, y: contiguous grid states [..,C] of one shape, with different memory; f: [N,C], any floating
/// dtype. Moves are exact, up to 2^32 - 1. Waits for the device once, for three numbers: the shape
/// of f in the next step is the number of tokens that are left, and a step costs less than an
/// evaluation of f that none of them needs. Throws c10::Error where shapes, dtypes or devices do
/// not fit.
Stepped iterate_(at::Tensor& x, const at::Tensor& y, const at::Tensor& f, int64_t bits,
                 const Iterated& tokens, const MoveLimits& limits);

/// In rows r whose sum differs from the expected one: x[r] <- the cells nearest to
/// y[r] - rint(f[r] 2^bits) with the packed low bits (`select_by_low_bits`), and sums[r] <- the row
/// sum of x[r]; in place.
///
/// x, y: contiguous grid states [..,C]; f: their shape, any floating dtype; packed: of
/// `pack_low_bits` with `count`; expected, sums: [rows] int64. Throws c10::Error where shapes,
/// dtypes or devices do not fit.
void correct_(at::Tensor& x, const at::Tensor& y, const at::Tensor& f, int64_t bits,
              const at::Tensor& packed, int64_t count, const at::Tensor& expected,
              at::Tensor& sums);

}  // namespace rev::kernels
