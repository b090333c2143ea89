// Where an operator runs: `on_device` is the one line in which each of them chooses.
#pragma once

#include <ATen/core/Tensor.h>
#include <functional>
#include <type_traits>

#include "cuda/bfloat16.h"
#include "cuda/stream.h"

namespace rev::kernels {

/// Whether the kernels of cuda/ are part of this build (a definition that CMake makes).
inline constexpr bool kHasCuda = REV_HAS_CUDA;

/// Throws c10::Error where the device is neither the CPU nor a CUDA device. `op`: the operator, for
/// that message. Asked before anything else: the data of such a tensor may not be pointed to.
void check_type_of_device(const char* op, c10::Device device);

/// Whether kernels run on the device: whether it is a CUDA device. Throws c10::Error where it is
/// one that kernels cannot run on, or this build has none. `op`: the operator, for that message.
bool runs_on_cuda(const char* op, c10::Device device);

/// launch(stream) with t's device current: the kernels are queued on its current stream.
void with_stream(const at::Tensor& t, const std::function<void(cuda::Stream)>& launch);

/// Calls launch(stream) where t is on a device that kernels run on; false: the CPU path is to be
/// taken. Throws c10::Error where t is on neither of them. launch takes `auto stream`: a build
/// without kernels then makes no code of it, optimised or not, that would call them.
template <class Launch>
bool on_device(const char* op, const at::Tensor& t, [[maybe_unused]] const Launch& launch) {
  static_assert(
      !requires { &Launch::operator(); }, "launch takes `auto stream`");
  check_type_of_device(op, t.device());
  if (!runs_on_cuda(op, t.device())) return false;
  if constexpr (kHasCuda) with_stream(t, launch);
  return true;
}

/// The elements of t, null where t is undefined; to read where T is const, else to write. T is the
/// type of t's dtype, and BFloat16 where the caller knows it to be bfloat16.
template <class T>
T* pointer_or_null(const at::Tensor& t) {
  if (!t.defined()) return nullptr;
  if constexpr (std::is_same_v<T, cuda::BFloat16>) {
    return static_cast<T*>(t.mutable_data_ptr());
  } else if constexpr (std::is_const_v<T>) {
    return t.const_data_ptr<std::remove_const_t<T>>();
  } else {
    return t.mutable_data_ptr<T>();
  }
}

/// body(pointer) to the elements of t, which is float32 or bfloat16.
template <class Body>
void with_float(const at::Tensor& t, const Body& body) {
  if (t.scalar_type() == at::kFloat) {
    body(t.const_data_ptr<float>());
  } else {
    body(static_cast<const cuda::BFloat16*>(t.const_data_ptr()));
  }
}

/// The same for elements that are written.
template <class Body>
void with_mutable_float(const at::Tensor& t, const Body& body) {
  if (t.scalar_type() == at::kFloat) {
    body(t.mutable_data_ptr<float>());
  } else {
    body(static_cast<cuda::BFloat16*>(t.mutable_data_ptr()));
  }
}

}  // namespace rev::kernels
