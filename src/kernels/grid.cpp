#include "rev/kernels/grid.h"

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <cmath>
#include <limits>
#include <vector>

#include "cuda/grid_math.h"
#include "kernels/device.h"

namespace rev::kernels {
namespace {

using at::Tensor;

// Rows are short and memory is the limit: let the compiler make one body for each vector width and
// choose at load time. The sanitizers cannot live with that choice (it runs before they do).
#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__)
#define REV_VECTOR_WIDTHS \
  __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define REV_VECTOR_WIDTHS
#endif

// Below this many elements a thread costs more than it saves.
constexpr int64_t kGrain = 1 << 14;

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

// bfloat16 bits are the upper half of float32's.
REV_VECTOR_WIDTHS void widen_row(float* to, const uint16_t* from, int64_t n) {
  for (int64_t j = 0; j < n; ++j) {
    const uint32_t word = static_cast<uint32_t>(from[j]) << 16;
    __builtin_memcpy(to + j, &word, sizeof word);
  }
}

REV_VECTOR_WIDTHS uint64_t sum_row(const uint32_t* x, const uint32_t* weight, int64_t n) {
  uint64_t sum = 0;
  for (int64_t j = 0; j < n; ++j) sum += static_cast<uint64_t>(weight[j]) * x[j];
  return sum;
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

int64_t row_length(const Tensor& y) { return y.dim() == 0 ? 1 : y.size(-1); }

int64_t row_count(const Tensor& y) {
  const int64_t n = row_length(y);
  return n == 0 ? 0 : y.numel() / n;
}

// Runs body(row, offset) -> flag over the rows of y, with the row sums that are asked for around
// it.
template <class Body>
void for_rows(const Tensor& y, const Probe& probe, const Body& body) {
  const int64_t rows = row_count(y), n = row_length(y);
  const auto* words = reinterpret_cast<const uint32_t*>(y.const_data_ptr<int32_t>());
  int64_t* before = probe.before.defined() ? probe.before.data_ptr<int64_t>() : nullptr;
  int64_t* after = probe.after.defined() ? probe.after.data_ptr<int64_t>() : nullptr;
  int32_t* saturated = probe.saturated.defined() ? probe.saturated.data_ptr<int32_t>() : nullptr;
  at::parallel_for(0, rows, std::max<int64_t>(1, kGrain / std::max<int64_t>(n, 1)),
                   [&](int64_t begin, int64_t end) {
                     std::vector<uint32_t> weight;
                     if (before != nullptr || after != nullptr) {
                       weight.resize(n);
                       for (int64_t j = 0; j < n; ++j)
                         weight[j] = grid::weight(static_cast<uint32_t>(j));
                     }
                     uint32_t out = 0;
                     for (int64_t row = begin; row < end; ++row) {
                       const uint32_t* at_row = words + row * n;
                       if (before != nullptr) {
                         before[row] = static_cast<int64_t>(sum_row(at_row, weight.data(), n));
                       }
                       out |= body(row * n, n);
                       if (after != nullptr) {
                         after[row] = static_cast<int64_t>(sum_row(at_row, weight.data(), n));
                       }
                     }
                     // Every thread writes the same value.
                     if (out != 0 && saturated != nullptr)
                       __atomic_store_n(saturated, 1, __ATOMIC_RELAXED);
                   });
}

void check_probe(const char* op, const Tensor& y, const Probe& probe) {
  for (const Tensor& sums : {probe.before, probe.after}) {
    TORCH_CHECK(!sums.defined() || (sums.scalar_type() == at::kLong && sums.is_contiguous() &&
                                    sums.numel() == row_count(y) && sums.device() == y.device()),
                op, ": row sums must be contiguous int64 of ", row_count(y), " elements on ",
                y.device(), ", got ", sums.sizes(), " of ", sums.scalar_type(), " on ",
                sums.device());
  }
  TORCH_CHECK(!probe.saturated.defined() ||
                  (probe.saturated.scalar_type() == at::kInt && probe.saturated.numel() == 1 &&
                   probe.saturated.device() == y.device()),
              op, ": the saturation flag must be one int32 on ", y.device());
}

void check_state(const char* op, const Tensor& y) {
  TORCH_CHECK(y.scalar_type() == at::kInt || y.scalar_type() == at::kFloat ||
                  y.scalar_type() == at::kDouble,
              op, ": a state must be int32 (the grid), float32 or float64, got ", y.scalar_type());
  TORCH_CHECK(y.is_contiguous(), op, ": a state must be contiguous, got strides ", y.strides());
}

void check_like(const char* op, const char* name, const Tensor& y, const Tensor& x) {
  TORCH_CHECK(x.sizes() == y.sizes(), op, ": the state is ", y.sizes(), " but ", name, " is ",
              x.sizes());
  TORCH_CHECK(x.device() == y.device(), op, ": the state is on ", y.device(), " but ", name, " on ",
              x.device());
}

void check_field(const char* op, const Tensor& y, const Tensor& f) {
  check_like(op, "the field's value", y, f);
  TORCH_CHECK(at::isFloatingType(f.scalar_type()), op,
              ": the field's value must be floating point, got ", f.scalar_type());
}

void check_bits(const char* op, int64_t bits) {
  TORCH_CHECK(bits >= 1 && bits <= 30, op, ": grid bits must be 1 to 30, got ", bits);
}

float unit_of(int64_t bits) { return std::ldexp(1.0f, static_cast<int>(-bits)); }
float scale_of(double c, int64_t bits) {
  return static_cast<float>(std::ldexp(c, static_cast<int>(bits)));
}

// The field's value as the grid reads it: float32 or bfloat16, contiguous.
Tensor as_increment(const Tensor& f) {
  const Tensor g = f.detach();
  const bool as_is = g.scalar_type() == at::kFloat || g.scalar_type() == at::kBFloat16;
  return (as_is ? g : g.to(at::kFloat)).contiguous();
}

// Row `offset` of f as float32: a pointer into f, or into `scratch` after widening.
class FloatRows {
 public:
  explicit FloatRows(const Tensor& f)
      : floats_(f.scalar_type() == at::kFloat ? f.const_data_ptr<float>() : nullptr),
        bfloats_(floats_ == nullptr ? static_cast<const uint16_t*>(f.const_data_ptr()) : nullptr) {}

  const float* row(int64_t offset, int64_t n) const {
    if (floats_ != nullptr) return floats_ + offset;
    thread_local std::vector<float> scratch;
    scratch.resize(n);
    widen_row(scratch.data(), bfloats_ + offset, n);
    return scratch.data();
  }

 private:
  const float* floats_;
  const uint16_t* bfloats_;
};

// Float states: the operator is ATen's, the sums are taken beside it.
template <class Op>
void probed(Tensor& y, const Probe& probe, const Op& op) {
  if (probe.before.defined()) probe.before.copy_(row_sums(y));
  op();
  if (probe.after.defined()) probe.after.copy_(row_sums(y));
}

void negate_if_(Tensor& y, bool negative, const Probe& probe) {
  if (y.is_cuda()) {
    Tensor none;
    scale_cuda(y, none, {1, 1, negative}, probe);
    return;
  }
  int32_t* cells = y.data_ptr<int32_t>();
  for_rows(y, probe, [&](int64_t offset, int64_t n) {
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
    negate_if_(y, a.negative, probe);
    return;
  }
  check_like(op, "the digit buffer", y, digits);
  TORCH_CHECK(digits.is_contiguous() &&
                  (digits.scalar_type() == at::kInt || digits.scalar_type() == at::kLong),
              op, ": the digit buffer must be contiguous int32 or int64, got ",
              digits.scalar_type());
  if (y.is_cuda()) {
    Undo ? unscale_cuda(y, digits, a, probe) : scale_cuda(y, digits, a, probe);
    return;
  }
  int32_t* cells = y.data_ptr<int32_t>();
  const auto run = [&](auto rescale, auto* d) {
    for_rows(y, probe, [&](int64_t offset, int64_t count) {
      return rescale(cells + offset, d + offset, count, Undo ? a.m : a.n, Undo ? a.n : a.m,
                     Undo && a.negative, !Undo && a.negative);
    });
  };
  constexpr int64_t kShort = int64_t{1} << 16;
  if (digits.scalar_type() == at::kLong) {
    run(rescale_row<uint64_t>, reinterpret_cast<uint64_t*>(digits.data_ptr<int64_t>()));
  } else {
    run(a.n <= kShort && a.m <= kShort ? rescale_row_32 : rescale_row<uint32_t>,
        reinterpret_cast<uint32_t*>(digits.data_ptr<int32_t>()));
  }
}

}  // namespace

Tensor encode(const Tensor& x, at::ScalarType dtype, int64_t bits, const Probe& probe) {
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
  if (y.is_cuda()) {
    encode_cuda(y, from, scale_of(1.0, bits), probe);
    return y;
  }
  int32_t* cells = y.data_ptr<int32_t>();
  const float* values = from.const_data_ptr<float>();
  for_rows(y, probe, [&](int64_t offset, int64_t n) {
    return encode_row(cells + offset, values + offset, n, scale_of(1.0, bits));
  });
  return y;
}

Tensor decode(const Tensor& state, int64_t bits) {
  check_state("decode", state);
  if (state.scalar_type() != at::kInt) return state;
  check_bits("decode", bits);
  Tensor x = at::empty(state.sizes(), state.options().dtype(at::kFloat));
  if (state.is_cuda()) {
    decode_cuda(x, state, unit_of(bits));
    return x;
  }
  const int32_t* cells = state.const_data_ptr<int32_t>();
  auto* values = x.data_ptr<float>();
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
  if (y.is_cuda()) {
    update_cuda(y, g, scale_of(c, bits), probe);
    return;
  }
  int32_t* cells = y.data_ptr<int32_t>();
  const FloatRows values(g);
  for_rows(y, probe, [&](int64_t offset, int64_t n) {
    return update_row(cells + offset, values.row(offset, n), n, scale_of(c, bits));
  });
}

void reflect_(Tensor& y, const Tensor& x, const Tensor& f, double c, int64_t bits,
              const Probe& probe) {
  check_state("reflect_", y);
  check_state("reflect_", x);
  check_like("reflect_", "x", y, x);
  check_field("reflect_", y, f);
  check_probe("reflect_", y, probe);
  if (y.scalar_type() != at::kInt) {
    probed(y, probe, [&] { y.neg_().add_(x, 2.0).add_(f.detach().to(y.scalar_type()), c); });
    return;
  }
  check_bits("reflect_", bits);
  const Tensor g = as_increment(f);
  if (y.is_cuda()) {
    reflect_cuda(y, x, g, scale_of(c, bits), probe);
    return;
  }
  int32_t* cells = y.data_ptr<int32_t>();
  const int32_t* others = x.const_data_ptr<int32_t>();
  const FloatRows values(g);
  for_rows(y, probe, [&](int64_t offset, int64_t n) {
    return reflect_row(cells + offset, others + offset, values.row(offset, n), n,
                       scale_of(c, bits));
  });
}

void blend_(Tensor& y, const Tensor& x, double b, const Tensor& f, double c, int64_t bits,
            const Probe& probe) {
  check_state("blend_", y);
  check_state("blend_", x);
  check_like("blend_", "x", y, x);
  check_field("blend_", y, f);
  check_probe("blend_", y, probe);
  if (y.scalar_type() != at::kInt) {
    probed(y, probe, [&] { y.add_(x, b).add_(f.detach().to(y.scalar_type()), c); });
    return;
  }
  check_bits("blend_", bits);
  const Tensor g = as_increment(f);
  const auto factor = static_cast<float>(b);
  if (y.is_cuda()) {
    blend_cuda(y, x, factor, g, scale_of(c, bits), probe);
    return;
  }
  int32_t* cells = y.data_ptr<int32_t>();
  const int32_t* others = x.const_data_ptr<int32_t>();
  const FloatRows values(g);
  for_rows(y, probe, [&](int64_t offset, int64_t n) {
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
  if (state.is_cuda()) {
    row_sums_cuda(words, sums);
    return sums;
  }
  for_rows(words, {sums, {}, {}}, [](int64_t, int64_t) { return 0u; });
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
