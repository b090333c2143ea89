// States and their updates. A state's dtype says how it is held: int32 cells are the grid, i
// standing for i 2^-k; float32 and float64 are plain numbers.
//
// On the grid an update rounds the *increment*, r = rint(c f 2^k), and adds whole numbers, so that
// the update with -c undoes it in every bit. The product c f 2^k is taken in float32; that
// product's and rint's are the only roundings. Sums wrap modulo 2^32, which loses nothing; that a
// state has left its range (+-2^(31-k)), or that f was not a number, shows in a flag.
#pragma once

#include <ATen/core/Tensor.h>
#include <cstdint>

namespace rev::kernels {

/// What an update is asked to note in the same pass; undefined members are not.
struct Probe {
  at::Tensor before;     ///< [B*T] int64, written: row sums (see `row_sums`) of the state before
  at::Tensor after;      ///< [B*T] int64, written: row sums of the state after
  at::Tensor saturated;  ///< [1] int32, set to 1 where the grid's range was left or f is NaN
};

/// x as a new state of `dtype` (int32 grid of unit 2^-bits, float32 or float64), contiguous.
at::Tensor encode(const at::Tensor& x, at::ScalarType dtype, int64_t bits, const Probe& probe = {});

/// The value of a state: float32 for the grid (exact while |i| < 2^24), the state itself for
/// floats.
at::Tensor decode(const at::Tensor& state, int64_t bits);

/// y += c f, in place.
///
/// y: contiguous state [..,C]; f: y's shape and device, any floating dtype. Floats are added in y's
/// dtype. Throws c10::Error where shapes, dtypes or devices do not fit.
void update_(at::Tensor& y, const at::Tensor& f, double c, int64_t bits, const Probe& probe = {});

/// y <- 2 x - y + c f, in place: leapfrog's step, and its own inverse. As `update_`; x: a state
/// like y.
void reflect_(at::Tensor& y, const at::Tensor& x, const at::Tensor& f, double c, int64_t bits,
              const Probe& probe = {});

/// y += b x + c f, in place, with one rounding for both terms. As `update_`; x: a state like y.
void blend_(at::Tensor& y, const at::Tensor& x, double b, const at::Tensor& f, double c,
            int64_t bits, const Probe& probe = {});

/// A number n / m with its sign, for products that must be undone exactly.
struct Ratio {
  int64_t n = 1;  ///< 1 to 2^24
  int64_t m = 1;  ///< 1 to 2^24
  bool negative = false;

  double value() const {
    return (negative ? -1.0 : 1.0) * static_cast<double>(n) / static_cast<double>(m);
  }
};

/// y <- a y for a = +-n/m, in place; `unscale_` undoes it.
///
/// On the grid a y is not whole, so the digits that are lost are kept (mixed radix, last in first
/// out), and those kept before come in, so that y lies less than |a| above a y, or 1 below it:
///   z = y n + (d mod n);  d = d div n;  y = floor(z / m);  d = d m + (z mod m)
/// digits: contiguous, y's shape, int32 or int64 read as unsigned. How large d becomes is the
/// caller's to plan: 2^32 or 2^64 must not be passed. Float states use no digits: one product, one
/// division.
void scale_(at::Tensor& y, at::Tensor& digits, const Ratio& a, const Probe& probe = {});
void unscale_(at::Tensor& y, at::Tensor& digits, const Ratio& a, const Probe& probe = {});

/// A 64-bit sum of each row: [..,C] -> [rows] int64. Two rows that differ in one 32-bit word have
/// different sums, rows that differ in several have equal ones with a chance of about 2^-31; it is
/// sum_j w_j x_j modulo 2^64 over the row's words as unsigned numbers, w_j odd and fixed.
at::Tensor row_sums(const at::Tensor& state);

/// How many elements of a and b (int64, one shape) differ.
int64_t count_differing(const at::Tensor& a, const at::Tensor& b);

}  // namespace rev::kernels
