// The types of ggml's tensors, and how their blocks become numbers.
#pragma once

#include <ATen/core/Tensor.h>
#include <cstddef>
#include <cstdint>
#include <string>

namespace rev::io {

/// A type that can be loaded.
struct GgmlType {
  std::uint32_t id;
  const char* name;
  at::ScalarType dtype;   ///< of a loaded tensor
  std::int64_t elements;  ///< of a block; 1 where elements lie one by one
  std::int64_t bytes;     ///< of a block
  /// Writes the elements of blocks begin to end of a tensor; null where they are used as they lie.
  void (*dequantize)(const std::byte* blocks, float* out, std::int64_t begin, std::int64_t end);
};

/// Null where a type with this number or name cannot be loaded.
const GgmlType* find_ggml_type(std::uint32_t id);
const GgmlType* find_ggml_type(const std::string& name);

/// ggml's name of a type, whether it can be loaded or not; "number 99" for one that has none.
std::string ggml_type_name(std::uint32_t id);

/// The names of the types that can be loaded, for a message.
std::string supported_ggml_types();

}  // namespace rev::io
