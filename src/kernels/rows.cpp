#include "kernels/rows.h"

#include "cuda/grid_math.h"
#include "kernels/device.h"
#include "rev/kernels/dtype.h"

namespace rev::kernels {
namespace {

using at::Tensor;

// bfloat16 bits are the upper half of float32's.
REV_VECTOR_WIDTHS void widen_row(float* to, const uint16_t* from, int64_t n) {
  for (int64_t j = 0; j < n; ++j) {
    const uint32_t word = static_cast<uint32_t>(from[j]) << 16;
    __builtin_memcpy(to + j, &word, sizeof word);
  }
}

REV_VECTOR_WIDTHS uint64_t sum_words(const uint32_t* x, const uint32_t* weight, int64_t n) {
  uint64_t sum = 0;
  for (int64_t j = 0; j < n; ++j) sum += static_cast<uint64_t>(weight[j]) * x[j];
  return sum;
}

}  // namespace

std::vector<uint32_t> row_weights(int64_t n) {
  std::vector<uint32_t> weights(static_cast<size_t>(n));
  for (int64_t j = 0; j < n; ++j) {
    weights[static_cast<size_t>(j)] = grid::weight(static_cast<uint32_t>(j));
  }
  return weights;
}

uint64_t sum_row(const uint32_t* x, const uint32_t* weight, int64_t n) {
  return sum_words(x, weight, n);
}

Tensor as_increment(const Tensor& f) {
  const Tensor g = f.detach();
  return (is_kernel_float(g.scalar_type()) ? g : g.to(at::kFloat)).contiguous();
}

FloatRows::FloatRows(const Tensor& f)
    : floats_(f.scalar_type() == at::kFloat ? f.const_data_ptr<float>() : nullptr),
      bfloats_(floats_ == nullptr ? static_cast<const uint16_t*>(f.const_data_ptr()) : nullptr) {}

const float* FloatRows::row(int64_t offset, int64_t n) const {
  if (floats_ != nullptr) return floats_ + offset;
  thread_local std::vector<float> scratch;
  scratch.resize(static_cast<size_t>(n));
  widen_row(scratch.data(), bfloats_ + offset, n);
  return scratch.data();
}

cuda::Probe pointers(const Probe& probe) {
  return {pointer_or_null<int64_t>(probe.before), pointer_or_null<int64_t>(probe.after),
          pointer_or_null<int32_t>(probe.saturated)};
}

void check_state(const char* op, const Tensor& y) {
  check_type_of_device(op, y.device());
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

void check_other_state(const char* op, const Tensor& y, const Tensor& x) {
  check_state(op, x);
  check_like(op, "x", y, x);
  TORCH_CHECK(x.scalar_type() == y.scalar_type(), op, ": the state is ", y.scalar_type(),
              " but x is ", x.scalar_type());
}

void check_field(const char* op, const Tensor& y, const Tensor& f) {
  check_like(op, "the field's value", y, f);
  TORCH_CHECK(at::isFloatingType(f.scalar_type()), op,
              ": the field's value must be floating point, got ", f.scalar_type());
}

void check_sums(const char* op, const Tensor& y, const Tensor& sums) {
  TORCH_CHECK(sums.scalar_type() == at::kLong && sums.is_contiguous() &&
                  sums.numel() == row_count(y) && sums.device() == y.device(),
              op, ": row sums must be contiguous int64 of ", row_count(y), " elements on ",
              y.device(), ", got ", sums.sizes(), " of ", sums.scalar_type(), " on ",
              sums.device());
}

void check_probe(const char* op, const Tensor& y, const Probe& probe) {
  for (const Tensor& sums : {probe.before, probe.after}) {
    if (sums.defined()) check_sums(op, y, sums);
  }
  TORCH_CHECK(!probe.saturated.defined() ||
                  (probe.saturated.scalar_type() == at::kInt && probe.saturated.numel() == 1 &&
                   probe.saturated.device() == y.device()),
              op, ": the saturation flag must be one int32 on ", y.device());
}

void check_bits(const char* op, int64_t bits) {
  TORCH_CHECK(bits >= 1 && bits <= 30, op, ": grid bits must be 1 to 30, got ", bits);
}

}  // namespace rev::kernels
