#include "rev/io/gguf.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <algorithm>
#include <array>
#include <bit>
#include <c10/util/Exception.h>
#include <c10/util/StringUtil.h>
#include <cstring>
#include <limits>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>

#include "io/alias.h"
#include "io/dequantize.h"
#include "io/json.h"

namespace rev::io {
namespace {

static_assert(std::endian::native == std::endian::little,
              "numbers are used as they lie in the file");

namespace fs = std::filesystem;

constexpr std::string_view kMagic = "GGUF";
constexpr const char* kAlignmentKey = "general.alignment";
constexpr std::uint32_t kAlignment = 32;  // bytes, unless the metadata have another
constexpr std::uint32_t kMaxDims = 4;     // of ggml's tensors
constexpr std::uint64_t kMaxKey = 65535;  // bytes; the format's own limit
constexpr int kMaxDepth = 8;  // of arrays in arrays; no writer that we know of nests any

// The least that one of them takes, in bytes: what bounds a count by the size of the file.
constexpr std::uint64_t kLeastString = 8;
constexpr std::uint64_t kLeastArray = 12;

constexpr std::uint32_t kArray = 9;  // the format's number for it

/// Calls `call` with a value of the C++ type that a number of the format's (not an array's) means.
template <class Call>
auto with_type(std::uint32_t type, const std::string& where, Call&& call) {
  switch (type) {
    case 0:
      return call(std::uint8_t());
    case 1:
      return call(std::int8_t());
    case 2:
      return call(std::uint16_t());
    case 3:
      return call(std::int16_t());
    case 4:
      return call(std::uint32_t());
    case 5:
      return call(std::int32_t());
    case 6:
      return call(float());
    case 7:
      return call(bool());
    case 8:
      return call(std::string());
    case 10:
      return call(std::uint64_t());
    case 11:
      return call(std::int64_t());
    case 12:
      return call(double());
    default:
      TORCH_CHECK(false, where, " has the unknown type ", type);
  }
}

/// Reads a header from its beginning to its end.
class Cursor {
 public:
  explicit Cursor(const base::MappedFile& file) : text_(file.text()) {}

  std::uint64_t at() const { return at_; }
  std::uint64_t rest() const { return text_.size() - at_; }

  /// The next bytes; `where` is who they belong to, for messages.
  std::string_view take(std::uint64_t bytes, const std::string& where) {
    TORCH_CHECK(bytes <= rest(), where, " is truncated: at byte ", at_, " it goes on for ", bytes,
                " bytes, the file for ", rest());
    const std::string_view taken = text_.substr(at_, bytes);
    at_ += bytes;
    return taken;
  }

  /// Throws unless `count` elements of at least `least` bytes can follow.
  void check_count(std::uint64_t count, std::uint64_t least, const std::string& where) const {
    TORCH_CHECK(count <= rest() / least, where, " is truncated: at byte ", at_, " it has ", count,
                " elements, the file ", rest(), " bytes");
  }

  template <class T>
  T read(const std::string& where) {
    if constexpr (std::is_same_v<T, std::string>) {
      return T(take(read<std::uint64_t>(where), where));
    } else if constexpr (std::is_same_v<T, bool>) {
      const auto byte = read<std::uint8_t>(where);
      TORCH_CHECK(byte <= 1, where, " is a bool but holds the byte ", int(byte));
      return byte == 1;
    } else {
      T value;
      std::memcpy(&value, take(sizeof(T), where).data(), sizeof(T));
      return value;
    }
  }

  template <class T>
  std::vector<T> read_list(std::uint64_t count, const std::string& where) {
    constexpr bool is_string = std::is_same_v<T, std::string>;
    check_count(count, is_string ? kLeastString : sizeof(T), where);
    std::vector<T> list;
    if constexpr (is_string || std::is_same_v<T, bool>) {
      list.reserve(count);
      for (std::uint64_t i = 0; i < count; ++i) list.push_back(read<T>(where));
    } else {
      list.resize(count);
      const std::string_view bytes = take(count * sizeof(T), where);
      if (count > 0) std::memcpy(list.data(), bytes.data(), bytes.size());
    }
    return list;
  }

 private:
  std::string_view text_;
  std::uint64_t at_ = 0;
};

GgufValue read_array(Cursor& cursor, int depth, const std::string& where) {
  TORCH_CHECK(depth <= kMaxDepth, where, " nests arrays deeper than ", kMaxDepth, " levels");
  const auto type = cursor.read<std::uint32_t>(where);
  const auto count = cursor.read<std::uint64_t>(where);
  if (type != kArray) {
    return with_type(type, where, [&](auto element) {
      return GgufValue{cursor.read_list<decltype(element)>(count, where)};
    });
  }
  cursor.check_count(count, kLeastArray, where);
  std::vector<GgufValue> arrays;
  for (std::uint64_t i = 0; i < count; ++i) arrays.push_back(read_array(cursor, depth + 1, where));
  return {std::move(arrays)};
}

GgufValue read_value(Cursor& cursor, const std::string& where) {
  const auto type = cursor.read<std::uint32_t>(where);
  if (type == kArray) return read_array(cursor, 1, where);
  return with_type(type, where,
                   [&](auto element) { return GgufValue{cursor.read<decltype(element)>(where)}; });
}

void check_version(Cursor& cursor, const std::string& file) {
  TORCH_CHECK(cursor.rest() >= kMagic.size() && cursor.take(kMagic.size(), file) == kMagic, file,
              ": not a GGUF file: it does not begin with \"", kMagic, "\"");
  const auto version = cursor.read<std::uint32_t>(file + ": the header");
  TORCH_CHECK(version % 65536 != 0 || version == 0, file,
              ": a big-endian GGUF file, expected a little-endian one");
  TORCH_CHECK(version == 2 || version == 3, file, ": GGUF version ", version, ", expected 2 or 3");
}

std::uint32_t find_alignment(const std::map<std::string, GgufValue>& metadata,
                             const std::string& file) {
  const auto found = metadata.find(kAlignmentKey);
  if (found == metadata.end()) return kAlignment;
  const auto* alignment = std::get_if<std::uint32_t>(&found->second.value);
  TORCH_CHECK(alignment != nullptr && std::has_single_bit(*alignment), file, ": metadata \"",
              kAlignmentKey, "\" is not a uint32 that is a power of 2");
  return *alignment;
}

/// The bytes of a tensor, 0 for a type that cannot be loaded: its blocks are not known here.
std::uint64_t count_bytes(const GgufTensor& tensor, const std::string& where) {
  const GgmlType* type = find_ggml_type(tensor.type);
  if (type == nullptr) return 0;
  const std::int64_t row = tensor.shape.empty() ? 1 : tensor.shape.back();
  TORCH_CHECK(row % type->elements == 0, where, " has rows of ", row, " elements, but ",
              tensor.type, " has blocks of ", type->elements);
  std::int64_t elements = 1;
  std::int64_t bytes = 0;
  bool overflow = false;
  for (const std::int64_t size : tensor.shape) {
    overflow |= __builtin_mul_overflow(elements, size, &elements);
  }
  overflow |= __builtin_mul_overflow(elements / type->elements, type->bytes, &bytes);
  TORCH_CHECK(!overflow, where, " has a shape of more than 2^63 bytes");
  return static_cast<std::uint64_t>(bytes);
}

/// What the header says of the next tensor; its offset is still that from the end of the header.
GgufTensor read_tensor(Cursor& cursor, const std::string& where) {
  const auto n_dims = cursor.read<std::uint32_t>(where);
  TORCH_CHECK(n_dims <= kMaxDims, where, " has ", n_dims, " dimensions, expected at most ",
              kMaxDims);
  GgufTensor tensor;
  for (std::uint32_t i = 0; i < n_dims; ++i) {
    const auto size = cursor.read<std::uint64_t>(where);
    TORCH_CHECK(size >= 1 && size <= INT64_MAX, where, " has a dimension of size ", size);
    tensor.shape.push_back(static_cast<std::int64_t>(size));
  }
  std::reverse(tensor.shape.begin(), tensor.shape.end());
  tensor.type = ggml_type_name(cursor.read<std::uint32_t>(where));
  tensor.offset = cursor.read<std::uint64_t>(where);
  return tensor;
}

/// Makes offsets those from the beginning of the file, whose data begin at `begin`; throws where a
/// tensor is misaligned, lies outside of the file or overlaps another.
void place_tensors(std::map<std::string, GgufTensor>& tensors, std::uint64_t begin,
                   std::uint64_t file_bytes, std::uint32_t alignment, const std::string& file) {
  const std::uint64_t data_bytes = file_bytes - std::min(begin, file_bytes);
  std::vector<std::tuple<std::uint64_t, std::uint64_t, std::string_view>> ranges;
  for (auto& [name, tensor] : tensors) {
    const std::string where = file + ": tensor " + quoted(name);
    const std::uint64_t bytes = count_bytes(tensor, where);
    TORCH_CHECK(tensor.offset <= data_bytes && bytes <= data_bytes - tensor.offset, where, " has ",
                bytes, " bytes from byte ", tensor.offset, " of the data, which are truncated to ",
                data_bytes, " bytes");
    TORCH_CHECK(tensor.offset % alignment == 0, where, " lies at byte ", tensor.offset,
                " of the data, not on a multiple of ", alignment);
    ranges.emplace_back(tensor.offset, tensor.offset + bytes, name);
    tensor.offset += begin;
  }
  std::sort(ranges.begin(), ranges.end());
  for (std::size_t i = 1; i < ranges.size(); ++i) {
    const auto& [begin_before, end_before, before] = ranges[i - 1];
    const auto& [begin_next, end_next, next] = ranges[i];
    TORCH_CHECK(begin_next >= end_before, file, ": tensor ", quoted(std::string(next)),
                " begins at byte ", begin_next, " of the data, inside of ",
                quoted(std::string(before)));
  }
}

// ---- values as the types that `find` gives

template <class T>
struct IsVector : std::false_type {};
template <class T>
struct IsVector<std::vector<T>> : std::true_type {};

/// Converts a value of the file to the T that is asked for; false where its type is another one or
/// it does not fit.
template <class From, class T>
bool convert(const From& from, T& to) {
  if constexpr (std::is_same_v<From, T>) {
    to = from;
    return true;
  } else if constexpr (IsVector<From>::value && IsVector<T>::value) {
    to.reserve(from.size());
    for (const auto& element : from) {
      typename T::value_type converted;
      if (!convert<typename From::value_type>(element, converted)) return false;
      to.push_back(std::move(converted));
    }
    return true;
  } else if constexpr (std::is_same_v<From, bool> || std::is_same_v<T, bool>) {
    return false;
  } else if constexpr (std::is_integral_v<From> && std::is_integral_v<T>) {
    to = static_cast<T>(from);
    return std::in_range<T>(from);
  } else if constexpr (std::is_arithmetic_v<From> && std::is_same_v<T, double>) {
    to = static_cast<double>(from);
    return true;
  } else {
    return false;
  }
}

template <class T>
std::string kind_of() {
  if constexpr (std::is_same_v<T, bool>) return "bool";
  if constexpr (std::is_same_v<T, std::string>) return "string";
  if constexpr (std::is_same_v<T, std::int64_t>) return "integer below 2^63";
  if constexpr (std::is_same_v<T, double>) return "number";
  if constexpr (IsVector<T>::value) return "array of type " + kind_of<typename T::value_type>();
}

/// What a value is, for a message.
std::string describe(const GgufValue& value) {
  static constexpr const char* kNames[] = {"uint8",  "int8",   "uint16",  "int16",
                                           "uint32", "int32",  "float32", "bool",
                                           "string", "uint64", "int64",   "float64"};
  constexpr std::size_t kScalars = std::size(kNames);
  const std::size_t index = value.value.index();
  if (index < kScalars) return kNames[index];
  return std::string("array of type ") +
         (index < 2 * kScalars ? kNames[index - kScalars] : "array");
}

std::string list_names(const std::map<std::string, GgufTensor>& tensors) {
  return std::to_string(tensors.size()) + " tensors" +
         (tensors.empty() ? "" : ", the first is " + quoted(tensors.begin()->first));
}

}  // namespace

GgufFile::GgufFile(const fs::path& path) : file_(std::make_shared<const base::MappedFile>(path)) {
  const std::string file = path.string();
  Cursor cursor(*file_);
  check_version(cursor, file);
  const std::string header = file + ": the header";
  const auto n_tensors = cursor.read<std::uint64_t>(header);
  const auto n_keys = cursor.read<std::uint64_t>(header);
  for (std::uint64_t i = 0; i < n_keys; ++i) {
    const std::string number = c10::str(file, ": metadata key ", i + 1, " of ", n_keys);
    const auto key = cursor.read<std::string>(number);
    TORCH_CHECK(key.size() <= kMaxKey, number, " has ", key.size(), " bytes, expected at most ",
                kMaxKey);
    const std::string where = file + ": metadata " + quoted(key);
    TORCH_CHECK(metadata_.emplace(key, read_value(cursor, where)).second, where, " comes twice");
  }
  for (std::uint64_t i = 0; i < n_tensors; ++i) {
    const auto name =
        cursor.read<std::string>(c10::str(file, ": tensor ", i + 1, " of ", n_tensors));
    const std::string where = file + ": tensor " + quoted(name);
    TORCH_CHECK(tensors_.emplace(name, read_tensor(cursor, where)).second, where, " comes twice");
  }
  const std::uint64_t alignment = find_alignment(metadata_, file);
  const std::uint64_t begin = (cursor.at() + alignment - 1) / alignment * alignment;
  place_tensors(tensors_, begin, file_->size(), static_cast<std::uint32_t>(alignment), file);
}

template <class T>
std::optional<T> GgufFile::find(const std::string& key) const {
  const auto found = metadata_.find(key);
  if (found == metadata_.end()) return std::nullopt;
  T value;
  const bool fits =
      std::visit([&](const auto& from) { return convert(from, value); }, found->second.value);
  TORCH_CHECK(fits, path().string(), ": metadata ", quoted(key), " has the type ",
              describe(found->second), ", expected ", kind_of<T>());
  return value;
}

template <class T>
T GgufFile::get(const std::string& key) const {
  std::optional<T> value = find<T>(key);
  TORCH_CHECK(value.has_value(), path().string(), ": has no metadata ", quoted(key), ", expected ",
              kind_of<T>());
  return *std::move(value);
}

#define REV_GGUF_GETTERS(T)                                                        \
  template std::optional<T> GgufFile::find(const std::string&) const;              \
  template T GgufFile::get(const std::string&) const;                              \
  template std::optional<std::vector<T>> GgufFile::find(const std::string&) const; \
  template std::vector<T> GgufFile::get(const std::string&) const

REV_GGUF_GETTERS(bool);
REV_GGUF_GETTERS(std::int64_t);
REV_GGUF_GETTERS(double);
REV_GGUF_GETTERS(std::string);

#undef REV_GGUF_GETTERS

at::Tensor GgufFile::load(const std::string& name) const {
  const auto found = tensors_.find(name);
  TORCH_CHECK(found != tensors_.end(), path().string(), ": has no tensor ", quoted(name), " (",
              list_names(tensors_), ")");
  const auto& [type_name, shape, offset] = found->second;
  const GgmlType* type = find_ggml_type(type_name);
  TORCH_CHECK(type != nullptr, path().string(), ": tensor ", quoted(name), " is of the type ",
              type_name, ", expected one of ", supported_ggml_types());
  std::byte* data = file_->data() + offset;
  if (type->dequantize == nullptr) return alias_tensor(file_, data, shape, type->dtype);

  at::Tensor tensor = at::empty(shape, at::TensorOptions().dtype(type->dtype));
  auto* out = tensor.mutable_data_ptr<float>();
  constexpr std::int64_t kGrain = 32768;  // elements, a few microseconds: a page is 1024
  at::parallel_for(
      0, tensor.numel() / type->elements, kGrain / type->elements,
      [&](std::int64_t begin, std::int64_t end) { type->dequantize(data, out, begin, end); });
  return tensor;
}

}  // namespace rev::io
