#pragma once

#include <ATen/core/Tensor.h>
#include <cstddef>
#include <memory>

#include "rev/base/mapped_file.h"

namespace rev::io {

/// A contiguous CPU tensor of what lies at `data` inside of a mapping, which it keeps alive. Copied
/// where `data` is not on a multiple of dtype's element size.
at::Tensor alias_tensor(const std::shared_ptr<const base::MappedFile>& mapping, std::byte* data,
                        at::IntArrayRef shape, at::ScalarType dtype);

}  // namespace rev::io
