// Dropout whose mask is a function of two numbers, so that backward draws it again and keeps
// nothing else: Philox4x32-10 (Salmon, Moraes, Dror, Shaw 2011), counted by elements.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>
#include <cstdint>

namespace rev::kernels {

/// A stream of random numbers: where cuRAND's Philox would be with this seed and offset.
struct Philox {
  int64_t seed = 0;
  int64_t offset = 0;  ///< a multiple of 4

  /// Null, or on CUDA what is added to the offset: a device pointer that kernels read when they
  /// run, so that a captured graph draws other numbers each time that it is replayed.
  const int64_t* offset_at = nullptr;
};

/// A stream that no other call gets, from the device's default generator: on the CPU one draw of 64
/// bits, the seed; on CUDA the generator's seed and offset, which moves on by 4. While a CUDA graph
/// is captured the seed is drawn from the CPU's generator, and the offset moves on with each
/// replay. Under the same generator states the same calls get the same streams. Throws c10::Error
/// for other devices.
Philox draw_philox(c10::Device device);

/// y_i = x_i m_i / (1 - p), with m_i = 1 where number i of the stream is below (1 - p) 2^32, else
/// 0; i counts the elements of a contiguous x.
///
/// x: any shape, float32 or bfloat16, on the CPU or CUDA with the same bits, but for NaN
/// (Note [Same bits], dtype.h). The factor and the
/// product are float32. Returns a new contiguous tensor of x's shape and dtype. Its gradient is
/// dropout of the gradient. Throws c10::Error unless 0 <= p < 1, or for other dtypes.
at::Tensor philox_dropout(const at::Tensor& x, double p, const Philox& from);

/// m as a bool tensor, whatever the dtype of what it is for.
at::Tensor philox_mask(at::IntArrayRef sizes, double p, const Philox& from, c10::Device device);

}  // namespace rev::kernels
