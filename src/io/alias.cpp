#include "io/alias.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <c10/util/accumulate.h>
#include <cstdint>
#include <cstring>

namespace rev::io {

at::Tensor alias_tensor(const std::shared_ptr<const base::MappedFile>& mapping, std::byte* data,
                        at::IntArrayRef shape, at::ScalarType dtype) {
  const at::TensorOptions options = at::TensorOptions().dtype(dtype);
  if (c10::multiply_integers(shape) == 0) return at::empty(shape, options);
  if (reinterpret_cast<std::uintptr_t>(data) % c10::elementSize(dtype) != 0) {
    at::Tensor copy = at::empty(shape, options);
    std::memcpy(copy.mutable_data_ptr(), data, copy.nbytes());
    return copy;
  }
  return at::from_blob(
      data, shape, [mapping](void*) {}, options);
}

}  // namespace rev::io
