#include "rev/io/safetensors.h"

#include <algorithm>
#include <array>
#include <bit>
#include <c10/core/ScalarType.h>
#include <c10/util/Exception.h>
#include <cstdint>
#include <cstring>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>
#include <string_view>
#include <tuple>
#include <vector>

#include "io/alias.h"
#include "io/json.h"
#include "rev/base/mapped_file.h"
#include "rev/io/file.h"

namespace rev::io {
namespace {

static_assert(std::endian::native == std::endian::little,
              "tensors are used as they lie in the file");

using nlohmann::json;
namespace fs = std::filesystem;

constexpr std::uint64_t kLengthBytes = 8;
constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;  // the format's own limit
constexpr std::size_t kMaxDims = 64;                    // LibTorch's operators take no more
constexpr int kMaxDepth = 3;                            // {"name": {"shape": [number]}}
constexpr const char* kMetadataKey = "__metadata__";

struct Dtype {
  std::string_view name;
  at::ScalarType type;
};

// In the order in which files are sorted: the format's other writers use the same.
constexpr std::array<Dtype, 16> kDtypes{{
    {"U64", at::ScalarType::UInt64},
    {"I64", at::ScalarType::Long},
    {"F64", at::ScalarType::Double},
    {"F32", at::ScalarType::Float},
    {"U32", at::ScalarType::UInt32},
    {"I32", at::ScalarType::Int},
    {"BF16", at::ScalarType::BFloat16},
    {"F16", at::ScalarType::Half},
    {"U16", at::ScalarType::UInt16},
    {"I16", at::ScalarType::Short},
    {"F8_E8M0", at::ScalarType::Float8_e8m0fnu},
    {"F8_E4M3", at::ScalarType::Float8_e4m3fn},
    {"F8_E5M2", at::ScalarType::Float8_e5m2},
    {"I8", at::ScalarType::Char},
    {"U8", at::ScalarType::Byte},
    {"BOOL", at::ScalarType::Bool},
}};

const Dtype* find_dtype(at::ScalarType type) {
  const auto* found =
      std::find_if(kDtypes.begin(), kDtypes.end(), [&](const Dtype& d) { return d.type == type; });
  return found == kDtypes.end() ? nullptr : found;
}

// ---- reading

struct Entry {
  std::string name;
  at::ScalarType dtype;
  std::vector<std::int64_t> shape;
  std::uint64_t begin, end;  // bytes, from the end of the header
};

struct Header {
  std::vector<Entry> entries;  // in the order of their bytes
  Metadata metadata;
  std::uint64_t bytes;  // length and JSON together
};

Metadata parse_metadata(const json& object, const std::string& file) {
  TORCH_CHECK(object.is_object(), file, ": ", kMetadataKey, " is not a JSON object");
  Metadata metadata;
  for (const auto& [key, value] : object.items()) {
    TORCH_CHECK(value.is_string(), file, ": metadata ", quoted(key), " is not a string");
    metadata.emplace(key, value.get<std::string>());
  }
  return metadata;
}

/// The bytes that dtype and shape ask for. No stride may overflow, also where a size is 0.
std::uint64_t count_bytes(const Entry& entry, const std::string& where) {
  auto bytes = static_cast<std::int64_t>(c10::elementSize(entry.dtype));
  bool empty = false;
  bool overflow = false;
  for (const std::int64_t size : entry.shape) {
    empty |= size == 0;
    overflow |= __builtin_mul_overflow(bytes, std::max<std::int64_t>(size, 1), &bytes);
  }
  TORCH_CHECK(!overflow, where, " has a shape of more than 2^63 bytes");
  return empty ? 0 : static_cast<std::uint64_t>(bytes);
}

Entry parse_entry(const std::string& name, const json& value, std::uint64_t data_bytes,
                  const std::string& file) {
  const std::string where = file + ": tensor " + quoted(name);
  const auto get = [&](const char* key, const char* expected, auto&& fits) -> const json& {
    const auto found = value.find(key);
    TORCH_CHECK(found != value.end() && fits(*found), where, " has no ", key, " that is ",
                expected);
    return *found;
  };
  const auto natural = [](const json& v) {
    return v.is_number_unsigned() && v.get<std::uint64_t>() <= INT64_MAX;
  };
  const auto naturals = [&](const json& v) {
    return v.is_array() && std::all_of(v.begin(), v.end(), natural);
  };
  TORCH_CHECK(value.is_object(), where, " is not described by a JSON object");

  const auto dtype_name =
      get("dtype", "a string", [](const json& v) { return v.is_string(); }).get<std::string>();
  const auto* dtype = std::find_if(kDtypes.begin(), kDtypes.end(),
                                   [&](const Dtype& d) { return d.name == dtype_name; });
  TORCH_CHECK(dtype != kDtypes.end(), where, " has the unknown dtype ", quoted(dtype_name));

  Entry entry{name, dtype->type, {}, 0, 0};
  entry.shape = get("shape", "a list of sizes", naturals).get<std::vector<std::int64_t>>();
  TORCH_CHECK(entry.shape.size() <= kMaxDims, where, " has ", entry.shape.size(),
              " dimensions, expected at most ", kMaxDims);

  const json& offsets = get("data_offsets", "a pair of byte offsets",
                            [&](const json& v) { return naturals(v) && v.size() == 2; });
  entry.begin = offsets[0].get<std::uint64_t>();
  entry.end = offsets[1].get<std::uint64_t>();
  TORCH_CHECK(entry.begin <= entry.end && entry.end <= data_bytes, where, " lies at bytes ",
              entry.begin, " to ", entry.end, ", outside of the file's ", data_bytes,
              " bytes of data");
  const std::uint64_t bytes = count_bytes(entry, where);
  TORCH_CHECK(entry.end - entry.begin == bytes, where, " has ", entry.end - entry.begin,
              " bytes, but dtype and shape ask for ", bytes);
  return entry;
}

Header read_header(const base::MappedFile& mapping) {
  const std::string file = mapping.path().string();
  const std::uint64_t file_bytes = mapping.size();
  TORCH_CHECK(file_bytes >= kLengthBytes, file, ": truncated: ", file_bytes,
              " bytes hold no safetensors header");
  std::uint64_t length;
  std::memcpy(&length, mapping.data(), kLengthBytes);
  TORCH_CHECK(length <= kMaxHeaderBytes, file, ": not a safetensors file: its header would have ",
              length, " bytes");
  TORCH_CHECK(length <= file_bytes - kLengthBytes, file, ": truncated: the header has ", length,
              " bytes, the file ", file_bytes);

  Header header;
  header.bytes = kLengthBytes + length;
  const std::uint64_t data_bytes = file_bytes - header.bytes;
  const json parsed =
      parse_json(mapping.text().substr(kLengthBytes, length), file + ": header", kMaxDepth);
  for (const auto& [name, value] : parsed.items()) {
    if (name == kMetadataKey) {
      header.metadata = parse_metadata(value, file);
    } else {
      header.entries.push_back(parse_entry(name, value, data_bytes, file));
    }
  }

  std::sort(header.entries.begin(), header.entries.end(), [](const Entry& a, const Entry& b) {
    return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
  });
  std::uint64_t next = 0;
  for (const Entry& entry : header.entries) {
    TORCH_CHECK(entry.begin >= next, file, ": tensor ", quoted(entry.name), " begins at byte ",
                entry.begin, " of the data, inside of the one before it");
    TORCH_CHECK(entry.begin == next, file, ": bytes ", next, " to ", entry.begin,
                " of the data belong to no tensor");
    next = entry.end;
  }
  TORCH_CHECK(next == data_bytes, file, ": the tensors end at byte ", next,
              " of the data, the file at ", data_bytes);
  return header;
}

/// Throws where a BOOL holds other bytes than 0 and 1.
void check_bools(const Entry& entry, const std::byte* data, const std::string& file) {
  if (entry.dtype != at::ScalarType::Bool) return;
  const std::byte* end = data + (entry.end - entry.begin);
  const std::byte* wrong = std::find_if(data, end, [](std::byte b) { return b > std::byte{1}; });
  TORCH_CHECK(wrong == end, file, ": tensor ", quoted(entry.name), " is BOOL but holds the byte ",
              static_cast<int>(*wrong));
}

// ---- writing

struct Source {
  const std::string* name;
  const at::Tensor* tensor;
  const Dtype* dtype;
};

std::vector<Source> check_sources(const base::NamedTensors& tensors, const std::string& file) {
  std::set<std::string_view> names;
  std::vector<Source> sources;
  for (const auto& [name, tensor] : tensors) {
    const std::string where = file + ": tensor " + quoted(name);
    TORCH_CHECK(name != kMetadataKey, where, " has the name that is kept for metadata");
    TORCH_CHECK(names.insert(name).second, where, " comes twice");
    TORCH_CHECK(tensor.defined(), where, " is undefined");
    TORCH_CHECK(tensor.layout() == at::kStrided && !tensor.is_meta(), where,
                " has no strided data: layout ", tensor.layout(), ", device ", tensor.device());
    const Dtype* dtype = find_dtype(tensor.scalar_type());
    TORCH_CHECK(dtype != nullptr, where,
                " has a dtype that safetensors lacks: ", tensor.scalar_type());
    sources.push_back({&name, &tensor, dtype});
  }
  return sources;
}

std::string make_header(const std::vector<Source>& sources, const Metadata& metadata,
                        const std::string& file) {
  using nlohmann::ordered_json;
  ordered_json header = ordered_json::object();
  if (!metadata.empty()) header[kMetadataKey] = metadata;
  auto& members =
      header.get_ref<ordered_json::object_t&>();  // names differ: no need to look them up
  std::uint64_t end = 0;
  for (const Source& source : sources) {
    const std::uint64_t begin = end;
    end += source.tensor->nbytes();
    members.emplace_back(*source.name, ordered_json{{"dtype", source.dtype->name},
                                                    {"shape", source.tensor->sizes().vec()},
                                                    {"data_offsets", {begin, end}}});
  }
  std::string text;
  try {
    text = header.dump();
  } catch (const json::type_error&) {
    TORCH_CHECK(false, file, ": a name or the metadata is not UTF-8");
  }
  text.resize((text.size() + 7) / 8 * 8, ' ');  // so that the data begin on a multiple of 8
  TORCH_CHECK(text.size() <= kMaxHeaderBytes, file, ": names and metadata take ", text.size(),
              " bytes, safetensors allows ", kMaxHeaderBytes);
  return text;
}

}  // namespace

std::map<std::string, at::Tensor> load_safetensors(const fs::path& path) {
  const auto mapping = std::make_shared<const base::MappedFile>(path);
  const Header header = read_header(*mapping);
  std::byte* data = mapping->data() + header.bytes;
  std::map<std::string, at::Tensor> tensors;
  for (const Entry& entry : header.entries) {
    check_bools(entry, data + entry.begin, path.string());
    tensors.emplace(entry.name,
                    alias_tensor(mapping, data + entry.begin, entry.shape, entry.dtype));
  }
  return tensors;
}

Metadata load_safetensors_metadata(const fs::path& path) {
  return read_header(base::MappedFile(path)).metadata;
}

void save_safetensors(const fs::path& path, const base::NamedTensors& tensors,
                      const Metadata& metadata, TensorOrder order) {
  std::vector<Source> sources = check_sources(tensors, path.string());
  if (order == TensorOrder::ByDtype) {
    std::sort(sources.begin(), sources.end(), [](const Source& a, const Source& b) {
      return std::tie(a.dtype, *a.name) < std::tie(b.dtype, *b.name);
    });
  }
  const std::string header = make_header(sources, metadata, path.string());
  const std::uint64_t length = header.size();

  AtomicFile file(path);
  file.write(&length, kLengthBytes);
  file.write(header);
  for (const Source& source : sources) {
    const at::Tensor plain = source.tensor->detach().resolve_neg().cpu().contiguous();
    file.write(plain.const_data_ptr(), plain.nbytes());
  }
  file.commit();
}

}  // namespace rev::io
