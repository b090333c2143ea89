// The kernels' doors to CUDA: cuda.cpp where the library is built with it, no_cuda.cpp (which
// throws) where it is not. Arguments were checked.
#pragma once

#include <ATen/core/Tensor.h>

#include "rev/kernels/grid.h"

namespace rev::kernels {

void encode_cuda(at::Tensor& y, const at::Tensor& x, float scale, const Probe& probe);
void decode_cuda(at::Tensor& x, const at::Tensor& y, float unit);
void update_cuda(at::Tensor& y, const at::Tensor& f, float scale, const Probe& probe);
void reflect_cuda(at::Tensor& y, const at::Tensor& x, const at::Tensor& f, float scale,
                  const Probe& probe);
void blend_cuda(at::Tensor& y, const at::Tensor& x, float b, const at::Tensor& f, float scale,
                const Probe& probe);
void scale_cuda(at::Tensor& y, at::Tensor& digits, const Ratio& a, const Probe& probe);
void unscale_cuda(at::Tensor& y, at::Tensor& digits, const Ratio& a, const Probe& probe);
void row_sums_cuda(const at::Tensor& words, at::Tensor& sums);

}  // namespace rev::kernels
