// GGUF files that hold a tokenizer and nothing else.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "io/gguf_bytes.h"

namespace rev::data {

/// What follows `tokenizer.ggml.` in a key, and the bytes of its type and value.
using GgufKeys = std::map<std::string, std::string>;

inline std::string gguf_text(const std::string& text) {
  return io::u32(io::kString) + io::text(text);
}

inline std::string gguf_texts(const std::vector<std::string>& texts) {
  std::string elements;
  for (const std::string& text : texts) elements += io::text(text);
  return io::u32(io::kArrayOf) + io::array(io::kString, texts.size(), elements);
}

inline std::string gguf_numbers(const std::vector<std::int32_t>& numbers) {
  std::string elements;
  for (const std::int32_t number : numbers) elements += io::raw(number);
  return io::u32(io::kArrayOf) + io::array(io::kInt32, numbers.size(), elements);
}

inline std::string make_gguf(const GgufKeys& keys) {
  std::string file = io::header(0, keys.size());
  for (const auto& [name, value] : keys) file += io::text("tokenizer.ggml." + name) + value;
  return file;
}

/// Byte-level BPE of five tokens.
inline GgufKeys small_tokenizer() {
  return {{"model", gguf_text("gpt2")},
          {"pre", gguf_text("gpt-2")},
          {"tokens", gguf_texts({"a", "b", "ab", "<s>", "new"})},
          {"token_type", gguf_numbers({1, 1, 1, 3, 4})},
          {"merges", gguf_texts({"a b"})}};
}

}  // namespace rev::data
