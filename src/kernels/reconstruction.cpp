#include "rev/kernels/reconstruction.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/full.h>
#include <ATen/ops/maximum.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros.h>
#include <algorithm>
#include <limits>
#include <mutex>

#include "cuda/reconstruction.h"
#include "cuda/reconstruction_math.h"
#include "kernels/device.h"
#include "kernels/vectors.h"

namespace rev::kernels {
namespace {

using at::Tensor;
using cuda::kFirstRows;
using cuda::kNoRow;
using cuda::kRowRecord;

REV_VECTOR_WIDTHS int64_t count_rows(const int64_t* a, const int64_t* b, int64_t n) {
  int64_t count = 0;
  for (int64_t i = 0; i < n; ++i) count += a[i] != b[i] ? 1 : 0;
  return count;
}

// Puts a row among the least, `first` [kFirstRows].
void insert(uint64_t* first, uint64_t row) {
  for (int k = 0; k < kFirstRows; ++k) {
    if (first[k] == row) return;
    if (row < first[k]) std::swap(first[k], row);
  }
}

// One pass over n elements, magnitudes as whole numbers of type Bits.
template <class Bits, class T>
[[gnu::always_inline]] inline void raise(Bits* record, const T* a, const T* b, int64_t n) {
  Bits apart = 0, largest = 0;
  for (int64_t i = 0; i < n; ++i) {
    apart = std::max(apart, cuda::magnitude_bits(a[i] - b[i]));
    largest = std::max(largest, cuda::magnitude_bits(a[i]));
  }
  record[0] = std::max(record[0], apart);
  record[1] = std::max(record[1], largest);
}

REV_VECTOR_WIDTHS void raise_32(uint32_t* record, const float* a, const float* b, int64_t n) {
  raise(record, a, b, n);
}

REV_VECTOR_WIDTHS void raise_64(uint64_t* record, const double* a, const double* b, int64_t n) {
  raise(record, a, b, n);
}

template <class Bits, class T, class Raise>
void raise_in_parallel(Tensor& record, const Tensor& a, const Tensor& b, const Raise& raise_part) {
  const T* x = a.const_data_ptr<T>();
  const T* y = b.const_data_ptr<T>();
  auto* bits = static_cast<Bits*>(record.mutable_data_ptr());
  std::mutex mutex;
  at::parallel_for(0, a.numel(), kGrain, [&](int64_t begin, int64_t end) {
    Bits part[2] = {};
    raise_part(part, x + begin, y + begin, end - begin);
    const std::lock_guard<std::mutex> lock(mutex);
    for (int k = 0; k < 2; ++k) bits[k] = std::max(bits[k], part[k]);
  });
}

// max(|t|) [1], and 0 for none.
Tensor largest_of(const Tensor& t) {
  return t.numel() == 0 ? at::zeros({}, t.options()) : t.abs().amax();
}

void check_record(const char* op, const Tensor& record, const Tensor& a, at::ScalarType dtype,
                  int64_t n) {
  TORCH_CHECK(record.scalar_type() == dtype && record.dim() == 1 && record.size(0) == n &&
                  record.is_contiguous() && record.device() == a.device(),
              op, ": the record must be contiguous ", dtype, " [", n, "] on ", a.device(), ", got ",
              record.sizes(), " of ", record.scalar_type(), " on ", record.device());
}

}  // namespace

Tensor new_row_records(int64_t n, c10::Device device) {
  Tensor records = at::full({n, kRowRecord}, static_cast<int64_t>(kNoRow),
                            at::TensorOptions(at::kLong).device(device));
  records.narrow(1, 0, kRowRecord - kFirstRows).zero_();
  return records;
}

Tensor compare_rows(const Tensor& a, const Tensor& b, const Tensor& record) {
  check_type_of_device("compare_rows", a.device());
  TORCH_CHECK(a.scalar_type() == at::kLong && b.scalar_type() == at::kLong && a.dim() == 1 &&
                  a.sizes() == b.sizes() && a.device() == b.device(),
              "compare_rows: expected row sums, two int64 [N] on one device, got ", a.sizes(),
              " of ", a.scalar_type(), " on ", a.device(), " and ", b.sizes(), " of ",
              b.scalar_type(), " on ", b.device());
  const Tensor found = record.defined() ? record : new_row_records(1, a.device()).select(0, 0);
  check_record("compare_rows", found, a, at::kLong, kRowRecord);
  const Tensor left = a.contiguous(), right = b.contiguous();
  const int64_t* x = left.const_data_ptr<int64_t>();
  const int64_t* y = right.const_data_ptr<int64_t>();
  auto* values = found.mutable_data_ptr<int64_t>();
  const auto launch = [&](auto stream) {
    cuda::launch_compare_rows(values, x, y, a.numel(), stream);
  };
  if (on_device("compare_rows", a, launch)) return found;
  auto* words = reinterpret_cast<uint64_t*>(values);
  std::mutex mutex;
  at::parallel_for(0, a.numel(), kGrain, [&](int64_t begin, int64_t end) {
    const int64_t differing = count_rows(x + begin, y + begin, end - begin);
    const std::lock_guard<std::mutex> lock(mutex);
    values[0] += end - begin;
    values[1] += differing;
    const int64_t named = std::min<int64_t>(differing, kFirstRows);
    for (int64_t i = begin, seen = 0; seen < named; ++i) {
      if (x[i] == y[i]) continue;
      insert(words + 2, static_cast<uint64_t>(i));
      ++seen;
    }
  });
  return found;
}

RowRecord read_row_record(const Tensor& record) {
  check_record("read_row_record", record, record, at::kLong, kRowRecord);
  const Tensor here = record.cpu();
  const auto* values = here.const_data_ptr<int64_t>();
  RowRecord read{values[0], values[1], {}};
  for (int k = 0; k < kFirstRows && values[2 + k] >= 0; ++k) read.first.push_back(values[2 + k]);
  return read;
}

Tensor drift(const Tensor& a, const Tensor& b, const Tensor& record) {
  check_type_of_device("drift", a.device());
  const at::ScalarType dtype = a.scalar_type();
  TORCH_CHECK((dtype == at::kFloat || dtype == at::kDouble) && b.scalar_type() == dtype &&
                  a.sizes() == b.sizes() && a.device() == b.device(),
              "drift: expected two states of one shape, float32 or float64, on one device, got ",
              a.sizes(), " of ", dtype, " on ", a.device(), " and ", b.sizes(), " of ",
              b.scalar_type(), " on ", b.device());
  Tensor found = record.defined() ? record : at::zeros({2}, a.options().requires_grad(false));
  check_record("drift", found, a, dtype, 2);
  const Tensor left = a.detach().contiguous(), right = b.detach().contiguous();
  if (dtype == at::kDouble && !a.is_cpu()) {
    found.copy_(at::maximum(found, at::stack({largest_of(left - right), largest_of(left)})));
    return found;
  }
  if (dtype == at::kDouble) {
    raise_in_parallel<uint64_t, double>(found, left, right, raise_64);
    return found;
  }
  const auto launch = [&](auto stream) {
    cuda::launch_drift(found.mutable_data_ptr<float>(), left.const_data_ptr<float>(),
                       right.const_data_ptr<float>(), left.numel(), stream);
  };
  if (on_device("drift", a, launch)) return found;
  raise_in_parallel<uint32_t, float>(found, left, right, raise_32);
  return found;
}

Drift read_drift(const Tensor& record) {
  TORCH_CHECK(record.numel() == 2 && at::isFloatingType(record.scalar_type()),
              "read_drift: expected a record of drift, [2], got ", record.sizes(), " of ",
              record.scalar_type());
  const Tensor here = record.to(at::kCPU, at::kDouble);
  const auto* values = here.const_data_ptr<double>();
  return {values[0], values[0] == 0.0 ? 0.0 : values[0] / values[1]};
}

}  // namespace rev::kernels
