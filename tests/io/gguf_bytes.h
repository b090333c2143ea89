// GGUF files out of their pieces, right ones and wrong ones.
#pragma once

#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace rev::io {

/// The numbers that the format has for types of metadata.
enum GgufMetadataType : std::uint32_t {
  kUInt8,
  kInt8,
  kUInt16,
  kInt16,
  kUInt32,
  kInt32,
  kFloat32,
  kBool,
  kString,
  kArrayOf,
  kUInt64,
  kInt64,
  kFloat64
};

/// A number's bytes.
template <class T>
std::string raw(T number) {
  static_assert(std::is_arithmetic_v<T>);
  return {reinterpret_cast<const char*>(&number), sizeof(T)};
}

inline std::string u32(std::uint32_t number) { return raw(number); }
inline std::string u64(std::uint64_t number) { return raw(number); }

/// A string with its length before it.
inline std::string text(std::string_view bytes) { return u64(bytes.size()) + std::string(bytes); }

inline std::string header(std::uint64_t n_tensors, std::uint64_t n_keys,
                          std::uint32_t version = 3) {
  return "GGUF" + u32(version) + u64(n_tensors) + u64(n_keys);
}

inline std::string key(std::string_view name, std::uint32_t type, const std::string& value) {
  return text(name) + u32(type) + value;
}

inline std::string array(std::uint32_t type, std::uint64_t count, const std::string& elements) {
  return u32(type) + u64(count) + elements;
}

/// dims: as in the file, the row's length first.
inline std::string tensor(std::string_view name, const std::vector<std::uint64_t>& dims,
                          std::uint32_t type, std::uint64_t offset) {
  std::string info = text(name) + u32(static_cast<std::uint32_t>(dims.size()));
  for (const std::uint64_t size : dims) info += u64(size);
  return info + u32(type) + u64(offset);
}

/// Bytes with zeros to a multiple of `alignment`.
inline std::string padded(std::string bytes, std::size_t alignment = 32) {
  bytes.resize((bytes.size() + alignment - 1) / alignment * alignment);
  return bytes;
}

struct BlockType {
  const char* name;
  std::uint32_t id;
  std::uint64_t elements, bytes;  // of a block
};

constexpr BlockType kBlockTypes[] = {
    {"F32", 0, 1, 4},       {"F16", 1, 1, 2},       {"Q4_0", 2, 32, 18},    {"Q4_1", 3, 32, 20},
    {"Q5_0", 6, 32, 22},    {"Q5_1", 7, 32, 24},    {"Q8_0", 8, 32, 34},    {"Q2_K", 10, 256, 84},
    {"Q3_K", 11, 256, 110}, {"Q4_K", 12, 256, 144}, {"Q5_K", 13, 256, 176}, {"Q6_K", 14, 256, 210},
    {"I8", 24, 1, 1},       {"I16", 25, 1, 2},      {"I32", 26, 1, 4},      {"I64", 27, 1, 8},
    {"F64", 28, 1, 8},      {"BF16", 30, 1, 2}};

/// A right file: keys of every type, and of every tensor type one of the shape [2,256] and random
/// bytes.
inline std::string whole_gguf(std::uint64_t seed) {
  const std::vector<std::string> keys = {
      key("a.uint8", kUInt8, raw<std::uint8_t>(255)),
      key("a.int8", kInt8, raw<std::int8_t>(-128)),
      key("a.uint16", kUInt16, raw<std::uint16_t>(65535)),
      key("a.int16", kInt16, raw<std::int16_t>(-32768)),
      key("a.uint32", kUInt32, raw<std::uint32_t>(4294967295)),
      key("a.int32", kInt32, raw<std::int32_t>(-5)),
      key("a.float32", kFloat32, raw(0.1f)),
      key("a.bool", kBool, raw<std::uint8_t>(1)),
      key("a.string", kString, text("gr\xc3\xbc\xc3\x9f")),
      key("a.uint64", kUInt64, raw<std::uint64_t>(18446744073709551615u)),
      key("a.int64", kInt64, raw<std::int64_t>(-9223372036854775807)),
      key("a.float64", kFloat64, raw(0.1)),
      key("b.numbers", kArrayOf,
          array(kInt16, 3, raw<std::int16_t>(-1) + raw<std::int16_t>(0) + raw<std::int16_t>(7))),
      key("b.floats", kArrayOf, array(kFloat32, 2, raw(0.5f) + raw(-2.0f))),
      key("b.bools", kArrayOf, array(kBool, 3, std::string("\1\0\1", 3))),
      key("b.strings", kArrayOf, array(kString, 3, text("a") + text("") + text("ccc"))),
      key("b.empty", kArrayOf, array(kUInt32, 0, "")),
      key("b.nested", kArrayOf,
          array(kArrayOf, 2, array(kUInt8, 2, "\1\2") + array(kString, 1, text("x")))),
      key("general.alignment", kUInt32, u32(64))};
  std::mt19937_64 random(seed);
  std::string infos;
  std::string data;
  for (const BlockType& type : kBlockTypes) {
    infos += tensor(type.name, {256, 2}, type.id, data.size());
    const std::uint64_t n_bytes = 512 / type.elements * type.bytes;
    for (std::uint64_t i = 0; i < n_bytes; ++i) data += static_cast<char>(random());
    data = padded(std::move(data), 64);
  }
  std::string file = header(std::size(kBlockTypes), keys.size());
  for (const std::string& one : keys) file += one;
  return padded(file + infos, 64) + data;
}

}  // namespace rev::io
