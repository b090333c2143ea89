// The safetensors format: an 8-byte length, a JSON header naming each tensor's dtype, shape and
// byte range, then the tensors' bytes without gaps. Little endian, row-major.
#pragma once

#include <ATen/core/Tensor.h>
#include <filesystem>
#include <map>
#include <string>

#include "rev/base/named_tensors.h"

namespace rev::io {

/// What a file says of itself: free text by key (`"format": "pt"`).
using Metadata = std::map<std::string, std::string>;

/// The tensors of a file, by name.
///
/// CPU tensors of the dtypes F64 F32 F16 BF16, I64 I32 I16 I8, U64 U32 U16 U8, F8_E4M3 F8_E5M2
/// F8_E8M0 and BOOL. They share one memory mapping of the file, which lives as long as any of them:
/// nothing is read before it is used, and writing into a tensor changes memory, never the file. A
/// tensor that does not lie on a multiple of its element size (writers other than
/// `save_safetensors`) is copied.
///
/// Throws c10::Error with one sentence naming the file, the tensor and the reason where the file is
/// truncated, its header is not what the format asks for, or byte ranges overlap, leave gaps, lie
/// outside of the file or do not fit dtype and shape.
std::map<std::string, at::Tensor> load_safetensors(const std::filesystem::path& path);

/// The metadata of a file, without its tensors. Throws as `load_safetensors`.
Metadata load_safetensors_metadata(const std::filesystem::path& path);

enum class TensorOrder {
  ByDtype,  ///< by falling element size, then by name: every tensor lies aligned
  AsGiven,
};

/// Writes tensors to path, durably and atomically (see `AtomicFile`).
///
/// The bytes depend on names, values, metadata and order alone. Contiguous CPU tensors are written
/// from where they lie; others are copied one at a time. Gradients and devices are not recorded.
///
/// Throws c10::Error for a name that comes twice, is `__metadata__` or is not UTF-8, for a tensor
/// that is undefined, not strided or of a dtype that the format lacks, and where the file cannot be
/// written.
void save_safetensors(const std::filesystem::path& path, const base::NamedTensors& tensors,
                      const Metadata& metadata = {}, TensorOrder order = TensorOrder::ByDtype);

}  // namespace rev::io
