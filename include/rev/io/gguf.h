// The GGUF format (versions 2 and 3, little endian), in which ggml's programs keep models: typed
// metadata by key, then tensors by name, whose elements may be quantised in blocks of a row.
#pragma once

#include <ATen/core/Tensor.h>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "rev/base/mapped_file.h"

namespace rev::io {

struct GgufValue;

template <class... T>
using GgufTypes = std::variant<T..., std::vector<T>..., std::vector<GgufValue>>;

/// One value of the metadata, of the type that the file gives it: a number, bool or string, an
/// array of these, or an array of arrays.
struct GgufValue {
  GgufTypes<std::uint8_t, std::int8_t, std::uint16_t, std::int16_t, std::uint32_t, std::int32_t,
            float, bool, std::string, std::uint64_t, std::int64_t, double>
      value;
};

/// What a file says of a tensor.
struct GgufTensor {
  std::string type;  ///< ggml's name of it: "F32", "Q4_K"; "number 99" where it has none
  std::vector<std::int64_t> shape;  ///< row-major: the file's dimensions from the last to the first
  std::uint64_t offset = 0;         ///< bytes from the beginning of the file
};

/// A GGUF file, memory-mapped: opening it reads its header alone.
///
/// A copy shares the mapping, and so does every tensor that lies in the file as it is used; the
/// mapping lives as long as any of them.
class GgufFile {
 public:
  /// Throws c10::Error with one sentence naming the file, the key or tensor and the reason where
  /// the file is truncated, of another version or byte order, or its header is not what the format
  /// asks for: a key or a tensor comes twice, sizes overflow or are 0, a row is no whole number of
  /// blocks, or tensors are misaligned, overlap or lie outside of the file.
  explicit GgufFile(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return file_->path(); }
  const std::map<std::string, GgufValue>& metadata() const { return metadata_; }
  const std::map<std::string, GgufTensor>& tensors() const { return tensors_; }

  /// The value of a key as T, nothing where the file does not have it.
  ///
  /// T is bool, std::int64_t (of every integer type), double (of every number), std::string or a
  /// vector of one of these. Throws c10::Error naming the file, the key, what was expected and what
  /// came where the value is of another type, or an integer beyond T.
  template <class T>
  std::optional<T> find(const std::string& key) const;

  /// The value of a key as T. Throws as `find`, and where the file does not have it.
  template <class T>
  T get(const std::string& key) const;

  /// A tensor, on the CPU.
  ///
  /// F64 F32 F16 BF16 I64 I32 I16 I8 keep their dtype and share the mapping, as those of
  /// `load_safetensors`. Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q3_K Q4_K Q5_K Q6_K become a new float32
  /// tensor, dequantised by ggml's formulas in float32: its bits, on all cores.
  ///
  /// Throws c10::Error where the file has no such tensor or its type is another one.
  at::Tensor load(const std::string& name) const;

 private:
  std::shared_ptr<const base::MappedFile> file_;
  std::map<std::string, GgufValue> metadata_;
  std::map<std::string, GgufTensor> tensors_;
};

}  // namespace rev::io
