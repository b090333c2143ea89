#include "rev/kernels/grid.h"

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include "cuda/grid.h"
#include "cuda/grid_math.h"
#include "kernels/device.h"
#include "kernels/rows.h"
#include "kernels/vectors.h"

namespace rev::kernels {
namespace {

using at::Tensor;

REV_VECTOR_WIDTHS uint32_t encode_row(int32_t* y, const float* x, int64_t n, float scale) {
  uint32_t out = 0;
  for (int64_t j = 0; j < n; ++j) y[j] = grid::to_cell(x[j] * scale, out);
  return out;
}

REV_VECTOR_WIDTHS void decode_row(float* x, const int32_t* y, int64_t n, float unit) {
  for (int64_t j = 0; j < n; ++j) x[j] = static_cast<float>(y[j]) * unit;
}

REV_VECTOR_WIDTHS uint32_t update_row(int32_t* y, const float* f, int64_t n, float scale) {
  uint32_t out = 0;
  for (int64_t j = 0; j < n; ++j) y[j] = grid::update(y[j], f[j], scale, out);
  return out;
}

REV_VECTOR_WIDTHS uint32_t reflect_row(int32_t* y, const int32_t* x, const float* f, int64_t n,
                                       float scale) {
  uint32_t out = 0;
  for (int64_t j = 0; j < n; ++j) y[j] = grid::reflect(y[j], x[j], f[j], scale, out);
  return out;
}

REV_VECTOR_WIDTHS uint32_t blend_row(int32_t* y, const int32_t* x, float b, const float* f,
                                     int64_t n, float scale) {
  uint32_t out = 0;
  for (int64_t j = 0; j < n; ++j) y[j] = grid::blend(y[j], x[j], b, f[j], scale, out);
  return out;
}

// One row's part of scale_, or of unscale_, which swaps n and m: y negated first or last, or not.
template <class Digits>
uint32_t rescale_row(int32_t* y, Digits* digits, int64_t count, int64_t n, int64_t m, bool first,
                     bool last) {
  uint32_t out = 0;
  for (int64_t j = 0; j < count; ++j) {
    uint64_t d = digits[j];
    int32_t x = first ? grid::negate(y[j], out) : y[j];
    x = grid::rescale(x, d, static_cast<uint32_t>(n), static_cast<uint32_t>(m), out);
    y[j] = last ? grid::negate(x, out) : x;
    digits[j] = static_cast<Digits>(d);
  }
  return out;
}

// floor(v / n) and what is left, for |v| < 2^50: the product with 1/n is off by less than one,
// which is put right. Unlike a division it has vectors.
inline int64_t divide(int64_t v, int64_t n, double inverse, int64_t& rest) {
  const auto q = static_cast<int64_t>(static_cast<double>(v) * inverse);
  rest = v - q * n;
  const int64_t above = rest >= n, below = rest < 0;
  rest += (below - above) * n;
  return q + above - below;
}

// The same whole numbers as the above, for 32-bit digits and n, m up to 2^16.
REV_VECTOR_WIDTHS uint32_t rescale_row_32(int32_t* y, uint32_t* digits, int64_t count, int64_t n,
                                          int64_t m, bool first, bool last) {
  const double over_n = 1.0 / static_cast<double>(n), over_m = 1.0 / static_cast<double>(m);
  uint32_t out = 0;
  for (int64_t j = 0; j < count; ++j) {
    const int32_t x = first ? grid::negate(y[j], out) : y[j];
    int64_t in = 0, lost = 0;
    const int64_t above = divide(digits[j], n, over_n, in);
    const int64_t quotient = divide(x * n + in, m, over_m, lost);
    const auto cell = static_cast<int32_t>(quotient);
    out |= cell == quotient ? 0u : 1u;
    y[j] = last ? grid::negate(cell, out) : cell;
    digits[j] = static_cast<uint32_t>(above * m + lost);
  }
  return out;
}

cuda::Ratio ratio_of(const Ratio& a) {
  return {static_cast<uint32_t>(a.n), static_cast<uint32_t>(a.m), a.negative};
}

// Float states: the operator is ATen's, the sums are taken beside it.
template <class Op>
void probed(Tensor& y, const Probe& probe, const Op& op) {
  if (probe.before.defined()) probe.before.copy_(row_sums(y));
  op();
  if (probe.after.defined()) probe.after.copy_(row_sums(y));
}

void negate_if_(const char* op, Tensor& y, bool negative, const Probe& probe) {
  int32_t* cells = y.data_ptr<int32_t>();
  const auto launch = [&](auto stream) {
    cuda::launch_sign(cells, negative, rows_of(y), pointers(probe), stream);
  };
  if (on_device(op, y, launch)) return;
  for_rows(y, probe, [&](int64_t, int64_t offset, int64_t n) {
    uint32_t out = 0;
    for (int64_t j = offset; negative && j < offset + n; ++j)
      cells[j] = grid::negate(cells[j], out);
    return out;
  });
}

template <bool Undo>
void scale_any_(const char* op, Tensor& y, Tensor& digits, const Ratio& a, const Probe& probe) {
  check_state(op, y);
  check_probe(op, y, probe);
  constexpr int64_t kMost = int64_t{1} << 24;
  TORCH_CHECK(a.n >= 1 && a.n <= kMost && a.m >= 1 && a.m <= kMost, op,
              ": |a| = n/m must have n and m from 1 to ", kMost, ", got ", a.n, "/", a.m);
  if (y.scalar_type() != at::kInt) {
    probed(y, probe, [&] {
      if (Undo) {
        y.div_(a.value());
      } else {
        y.mul_(a.value());
      }
    });
    return;
  }
  if (a.n == 1 && a.m == 1) {  // no digit is lost: the buffer may be absent
    negate_if_(op, y, a.negative, probe);
    return;
  }
  check_like(op, "the digit buffer", y, digits);
  TORCH_CHECK(digits.is_contiguous() &&
                  (digits.scalar_type() == at::kInt || digits.scalar_type() == at::kLong),
              op, ": the digit buffer must be contiguous int32 or int64, got ",
              digits.scalar_type());
  int32_t* cells = y.data_ptr<int32_t>();
  const bool wide = digits.scalar_type() == at::kLong;
  const auto launch = [&](auto stream) {
    const auto launch_on = [&](auto* d) {
      if (Undo) {
        cuda::launch_unscale(cells, d, ratio_of(a), rows_of(y), pointers(probe), stream);
      } else {
        cuda::launch_scale(cells, d, ratio_of(a), rows_of(y), pointers(probe), stream);
      }
    };
    if (wide) {
      launch_on(static_cast<uint64_t*>(digits.data_ptr()));
    } else {
      launch_on(static_cast<uint32_t*>(digits.data_ptr()));
    }
  };
  if (on_device(op, y, launch)) return;
  const auto run = [&](auto rescale, auto* d) {
    for_rows(y, probe, [&](int64_t, int64_t offset, int64_t count) {
      return rescale(cells + offset, d + offset, count, Undo ? a.m : a.n, Undo ? a.n : a.m,
                     Undo && a.negative, !Undo && a.negative);
    });
  };
  constexpr int64_t kShort = int64_t{1} << 16;
  if (wide) {
    run(rescale_row<uint64_t>, static_cast<uint64_t*>(digits.data_ptr()));
  } else {
    run(a.n <= kShort && a.m <= kShort ? rescale_row_32 : rescale_row<uint32_t>,
        static_cast<uint32_t*>(digits.data_ptr()));
  }
}

}  // namespace

Tensor encode(const Tensor& x, at::ScalarType dtype, int64_t bits, const Probe& probe) {
  check_type_of_device("encode", x.device());
  TORCH_CHECK(at::isFloatingType(x.scalar_type()), "encode: expected floating point, got ",
              x.scalar_type());
  TORCH_CHECK(dtype == at::kInt || dtype == at::kFloat || dtype == at::kDouble,
              "encode: a state must be int32 (the grid), float32 or float64, got ", dtype);
  if (dtype != at::kInt) {
    return x.detach().to(dtype, /*non_blocking=*/false, /*copy=*/true).contiguous();
  }
  check_bits("encode", bits);
  const Tensor from = x.detach().to(at::kFloat).contiguous();
  Tensor y = at::empty(x.sizes(), from.options().dtype(at::kInt));
  check_probe("encode", y, probe);
  int32_t* cells = y.data_ptr<int32_t>();
  const float* values = from.const_data_ptr<float>();
  const auto launch = [&](auto stream) {
    cuda::launch_encode(cells, values, scale_of(1.0, bits), rows_of(y), pointers(probe), stream);
  };
  if (on_device("encode", y, launch)) return y;
  for_rows(y, probe, [&](int64_t, int64_t offset, int64_t n) {
    return encode_row(cells + offset, values + offset, n, scale_of(1.0, bits));
  });
  return y;
}

Tensor decode(const Tensor& state, int64_t bits) {
  check_state("decode", state);
  if (state.scalar_type() != at::kInt) return state;
  check_bits("decode", bits);
  Tensor x = at::empty(state.sizes(), state.options().dtype(at::kFloat));
  const int32_t* cells = state.const_data_ptr<int32_t>();
  auto* values = x.data_ptr<float>();
  const auto launch = [&](auto stream) {
    cuda::launch_decode(values, cells, unit_of(bits), x.numel(), stream);
  };
  if (on_device("decode", state, launch)) return x;
  at::parallel_for(0, state.numel(), kGrain, [&](int64_t begin, int64_t end) {
    decode_row(values + begin, cells + begin, end - begin, unit_of(bits));
  });
  return x;
}

void update_(Tensor& y, const Tensor& f, double c, int64_t bits, const Probe& probe) {
  check_state("update_", y);
  check_field("update_", y, f);
  check_probe("update_", y, probe);
  if (y.scalar_type() != at::kInt) {
    probed(y, probe, [&] { y.add_(f.detach().to(y.scalar_type()), c); });
    return;
  }
  check_bits("update_", bits);
  const Tensor g = as_increment(f);
  int32_t* cells = y.data_ptr<int32_t>();
  const auto launch = [&](auto stream) {
    with_float(g, [&](const auto* increments) {
      cuda::launch_update(cells, increments, scale_of(c, bits), rows_of(y), pointers(probe),
                          stream);
    });
  };
  if (on_device("update_", y, launch)) return;
  const FloatRows values(g);
  for_rows(y, probe, [&](int64_t, int64_t offset, int64_t n) {
    return update_row(cells + offset, values.row(offset, n), n, scale_of(c, bits));
  });
}

void reflect_(Tensor& y, const Tensor& x, const Tensor& f, double c, int64_t bits,
              const Probe& probe) {
  check_state("reflect_", y);
  check_other_state("reflect_", y, x);
  check_field("reflect_", y, f);
  check_probe("reflect_", y, probe);
  if (y.scalar_type() != at::kInt) {
    probed(y, probe, [&] { y.neg_().add_(x, 2.0).add_(f.detach().to(y.scalar_type()), c); });
    return;
  }
  check_bits("reflect_", bits);
  const Tensor g = as_increment(f);
  int32_t* cells = y.data_ptr<int32_t>();
  const int32_t* others = x.const_data_ptr<int32_t>();
  const auto launch = [&](auto stream) {
    with_float(g, [&](const auto* increments) {
      cuda::launch_reflect(cells, others, increments, scale_of(c, bits), rows_of(y),
                           pointers(probe), stream);
    });
  };
  if (on_device("reflect_", y, launch)) return;
  const FloatRows values(g);
  for_rows(y, probe, [&](int64_t, int64_t offset, int64_t n) {
    return reflect_row(cells + offset, others + offset, values.row(offset, n), n,
                       scale_of(c, bits));
  });
}

void blend_(Tensor& y, const Tensor& x, double b, const Tensor& f, double c, int64_t bits,
            const Probe& probe) {
  check_state("blend_", y);
  check_other_state("blend_", y, x);
  check_field("blend_", y, f);
  check_probe("blend_", y, probe);
  if (y.scalar_type() != at::kInt) {
    probed(y, probe, [&] { y.add_(x, b).add_(f.detach().to(y.scalar_type()), c); });
    return;
  }
  check_bits("blend_", bits);
  const Tensor g = as_increment(f);
  const auto factor = static_cast<float>(b);
  int32_t* cells = y.data_ptr<int32_t>();
  const int32_t* others = x.const_data_ptr<int32_t>();
  const auto launch = [&](auto stream) {
    with_float(g, [&](const auto* increments) {
      cuda::launch_blend(cells, others, factor, increments, scale_of(c, bits), rows_of(y),
                         pointers(probe), stream);
    });
  };
  if (on_device("blend_", y, launch)) return;
  const FloatRows values(g);
  for_rows(y, probe, [&](int64_t, int64_t offset, int64_t n) {
    return blend_row(cells + offset, others + offset, factor, values.row(offset, n), n,
                     scale_of(c, bits));
  });
}

void scale_(Tensor& y, Tensor& digits, const Ratio& a, const Probe& probe) {
  scale_any_<false>("scale_", y, digits, a, probe);
}

void unscale_(Tensor& y, Tensor& digits, const Ratio& a, const Probe& probe) {
  scale_any_<true>("unscale_", y, digits, a, probe);
}

Tensor row_sums(const Tensor& state) {
  check_state("row_sums", state);
  const Tensor words = state.view(at::kInt);  // float64: two words an element
  Tensor sums = at::empty({row_count(state)}, state.options().dtype(at::kLong));
  const auto launch = [&](auto stream) {
    cuda::launch_row_sums(sums.data_ptr<int64_t>(), words.const_data_ptr<int32_t>(), rows_of(words),
                          stream);
  };
  if (on_device("row_sums", words, launch)) return sums;
  for_rows(words, {sums, {}, {}}, [](int64_t, int64_t, int64_t) { return 0u; });
  return sums;
}

int64_t count_differing(const Tensor& a, const Tensor& b) {
  TORCH_CHECK(
      a.scalar_type() == at::kLong && b.scalar_type() == at::kLong && a.sizes() == b.sizes(),
      "count_differing: expected two int64 tensors of one shape, got ", a.sizes(), " of ",
      a.scalar_type(), " and ", b.sizes(), " of ", b.scalar_type());
  return a.ne(b).sum().item<int64_t>();
}

}  // namespace rev::kernels
