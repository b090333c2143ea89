// The doors to CUDA of a library that was built with it: the launchers of cuda/, on the tensors'
// device and its current stream.
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include "cuda/grid.h"
#include "kernels/device.h"

namespace rev::kernels {
namespace {

using at::Tensor;

int32_t* cells(const Tensor& y) { return y.data_ptr<int32_t>(); }

cuda::Rows size_of(const Tensor& y) {
  const int64_t width = y.dim() == 0 ? 1 : y.size(-1);
  return {width == 0 ? 0 : y.numel() / width, width};
}

cuda::Probe pointers(const Probe& probe) {
  return {probe.before.defined() ? probe.before.data_ptr<int64_t>() : nullptr,
          probe.after.defined() ? probe.after.data_ptr<int64_t>() : nullptr,
          probe.saturated.defined() ? probe.saturated.data_ptr<int32_t>() : nullptr};
}

cuda::Ratio ratio(const Ratio& a) {
  return {static_cast<uint32_t>(a.n), static_cast<uint32_t>(a.m), a.negative};
}

// Calls launch(stream) with y's device current.
template <class Launch>
void on_device_of(const Tensor& y, const Launch& launch) {
  const c10::cuda::CUDAGuard guard(y.device());
  launch(c10::cuda::getCurrentCUDAStream().stream());
}

// Calls launch(pointer, stream) with f's elements, float or bfloat16.
template <class Launch>
void with_field(const Tensor& f, const Launch& launch) {
  on_device_of(f, [&](cudaStream_t stream) {
    if (f.scalar_type() == at::kFloat) {
      launch(f.const_data_ptr<float>(), stream);
    } else {
      launch(static_cast<const cuda::BFloat16*>(f.const_data_ptr()), stream);
    }
  });
}

// Calls launch(pointer, stream) with the digits, 32 or 64 bits wide.
template <class Launch>
void with_digits(const Tensor& digits, const Launch& launch) {
  on_device_of(digits, [&](cudaStream_t stream) {
    if (digits.scalar_type() == at::kInt) {
      launch(static_cast<uint32_t*>(digits.data_ptr()), stream);
    } else {
      launch(static_cast<uint64_t*>(digits.data_ptr()), stream);
    }
  });
}

void sign_cuda(const Tensor& y, bool negative, const Probe& probe) {
  on_device_of(y, [&](cudaStream_t stream) {
    cuda::launch_sign(cells(y), negative, size_of(y), pointers(probe), stream);
  });
}

}  // namespace

void encode_cuda(Tensor& y, const Tensor& x, float scale, const Probe& probe) {
  on_device_of(y, [&](cudaStream_t stream) {
    cuda::launch_encode(cells(y), x.const_data_ptr<float>(), scale, size_of(y), pointers(probe),
                        stream);
  });
}

void decode_cuda(Tensor& x, const Tensor& y, float unit) {
  on_device_of(y, [&](cudaStream_t stream) {
    cuda::launch_decode(x.data_ptr<float>(), y.const_data_ptr<int32_t>(), unit, y.numel(), stream);
  });
}

void update_cuda(Tensor& y, const Tensor& f, float scale, const Probe& probe) {
  with_field(f, [&](const auto* values, cudaStream_t stream) {
    cuda::launch_update(cells(y), values, scale, size_of(y), pointers(probe), stream);
  });
}

void reflect_cuda(Tensor& y, const Tensor& x, const Tensor& f, float scale, const Probe& probe) {
  with_field(f, [&](const auto* values, cudaStream_t stream) {
    cuda::launch_reflect(cells(y), x.const_data_ptr<int32_t>(), values, scale, size_of(y),
                         pointers(probe), stream);
  });
}

void blend_cuda(Tensor& y, const Tensor& x, float b, const Tensor& f, float scale,
                const Probe& probe) {
  with_field(f, [&](const auto* values, cudaStream_t stream) {
    cuda::launch_blend(cells(y), x.const_data_ptr<int32_t>(), b, values, scale, size_of(y),
                       pointers(probe), stream);
  });
}

void scale_cuda(Tensor& y, Tensor& digits, const Ratio& a, const Probe& probe) {
  if (!digits.defined()) {
    sign_cuda(y, a.negative, probe);
    return;
  }
  with_digits(digits, [&](auto* d, cudaStream_t stream) {
    cuda::launch_scale(cells(y), d, ratio(a), size_of(y), pointers(probe), stream);
  });
}

void unscale_cuda(Tensor& y, Tensor& digits, const Ratio& a, const Probe& probe) {
  if (!digits.defined()) {
    sign_cuda(y, a.negative, probe);
    return;
  }
  with_digits(digits, [&](auto* d, cudaStream_t stream) {
    cuda::launch_unscale(cells(y), d, ratio(a), size_of(y), pointers(probe), stream);
  });
}

void row_sums_cuda(const Tensor& words, Tensor& sums) {
  on_device_of(words, [&](cudaStream_t stream) {
    cuda::launch_row_sums(sums.data_ptr<int64_t>(), words.const_data_ptr<int32_t>(), size_of(words),
                          stream);
  });
}

}  // namespace rev::kernels
