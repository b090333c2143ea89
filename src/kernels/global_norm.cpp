#include "rev/kernels/global_norm.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <algorithm>
#include <vector>

#include "cuda/global_norm.h"
#include "cuda/global_norm_math.h"
#include "kernels/device.h"
#include "kernels/vectors.h"
#include "rev/kernels/dtype.h"

namespace rev::kernels {
namespace {

using at::Tensor;
using cuda::BFloat16;
using cuda::kNormSlice;
using cuda::LongSum;

template <class T>
REV_VECTOR_WIDTHS float square_sum(const T* x, int64_t n) {
  return cuda::ordered_sum<cuda::kNormLanes>(n, [x](int64_t j) {
    const float value = cuda::widen(x[j]);
    return value * value;
  });
}

// As global_norm_kernel adds them.
LongSum sum_of(const float* sums, int64_t slices) {
  std::vector<LongSum> running(cuda::kNormSums, LongSum{0, 0});
  for (int64_t i = 0; i < slices; ++i) {
    LongSum& own = running[i % cuda::kNormSums];
    own = cuda::add(own, {sums[i], 0});
  }
  for (size_t half = cuda::kNormSums / 2; half > 0; half /= 2) {
    for (size_t k = 0; k < half; ++k) running[k] = cuda::add(running[k], running[k + half]);
  }
  return running[0];
}

int64_t slices_of(const Tensor& t) { return (t.numel() + kNormSlice - 1) / kNormSlice; }

// Those of the tensors that have this type, with the place of their sums among all.
template <class T>
std::vector<cuda::NormTensor<T>> list_of(const std::vector<Tensor>& tensors, at::ScalarType dtype,
                                         float* sums) {
  std::vector<cuda::NormTensor<T>> list;
  for (const Tensor& t : tensors) {
    if (t.scalar_type() == dtype) {
      list.push_back({static_cast<const T*>(t.const_data_ptr()), t.numel(), sums});
    }
    sums += slices_of(t);
  }
  return list;
}

template <class T>
void sum_squares(const std::vector<cuda::NormTensor<T>>& list) {
  struct Slice {
    const T* x;
    int64_t n;
    float* sum;
  };
  std::vector<Slice> slices;
  for (const auto& t : list) {
    for (int64_t i = 0; i < t.n; i += kNormSlice) {
      slices.push_back({t.x + i, std::min(kNormSlice, t.n - i), t.sums + i / kNormSlice});
    }
  }
  const auto count = static_cast<int64_t>(slices.size());
  at::parallel_for(0, count, /*grain_size=*/1, [&](int64_t begin, int64_t end) {
    for (int64_t s = begin; s < end; ++s) *slices[s].sum = square_sum(slices[s].x, slices[s].n);
  });
}

}  // namespace

GlobalNorm global_norm(at::TensorList tensors, double most, const Tensor& not_finite) {
  const at::Device device = tensors.empty() ? at::Device(at::kCPU) : tensors[0].device();
  check_type_of_device("global_norm", device);
  std::vector<Tensor> dense;
  int64_t slices = 0;
  for (const Tensor& t : tensors) {
    TORCH_CHECK(is_kernel_float(t.scalar_type()),
                "global_norm: tensors must be float32 or bfloat16, got ", t.scalar_type());
    TORCH_CHECK(t.device() == device, "global_norm: a tensor is on ", t.device(), ", another on ",
                device);
    dense.push_back(t.is_non_overlapping_and_dense() ? t : t.contiguous());
    slices += slices_of(t);
  }
  TORCH_CHECK(!not_finite.defined() || (not_finite.scalar_type() == at::kInt &&
                                        not_finite.numel() == 1 && not_finite.device() == device),
              "global_norm: the flag must be one int32 on ", device);

  const auto options = at::TensorOptions().dtype(at::kFloat).device(device);
  const Tensor sums = at::empty({slices}, options);
  const GlobalNorm out{at::empty({}, options), at::empty({}, options)};
  auto* norm = out.norm.mutable_data_ptr<float>();
  auto* factor = out.factor.mutable_data_ptr<float>();
  int32_t* flag = pointer_or_null<int32_t>(not_finite);
  const auto floats = list_of<float>(dense, at::kFloat, sums.mutable_data_ptr<float>());
  const auto bfloats = list_of<BFloat16>(dense, at::kBFloat16, sums.mutable_data_ptr<float>());

  const auto launch = [&](auto stream) {
    cuda::launch_square_sums(floats.data(), static_cast<int64_t>(floats.size()), stream);
    cuda::launch_square_sums(bfloats.data(), static_cast<int64_t>(bfloats.size()), stream);
    cuda::launch_global_norm(norm, factor, flag, sums.const_data_ptr<float>(), slices,
                             static_cast<float>(most), stream);
  };
  if (on_device("global_norm", sums, launch)) return out;
  sum_squares(floats);
  sum_squares(bfloats);
  *norm = cuda::norm_of(sum_of(sums.const_data_ptr<float>(), slices));
  *factor = cuda::clip_factor(*norm, static_cast<float>(most));
  if (flag != nullptr && !(*norm < INFINITY)) *flag = 1;
  return out;
}

}  // namespace rev::kernels
