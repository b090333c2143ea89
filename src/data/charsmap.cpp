#include "data/charsmap.h"

#include <c10/util/Exception.h>
#include <cstring>

namespace rev::data {
namespace {

// A unit's fields, by darts-clone's format.
bool has_leaf(std::uint32_t unit) { return (unit >> 8 & 1) != 0; }
std::uint32_t value_of(std::uint32_t unit) { return unit & 0x7FFFFFFF; }
std::uint32_t label_of(std::uint32_t unit) { return unit & 0x800000FF; }
std::uint32_t offset_of(std::uint32_t unit) { return (unit >> 10) << ((unit & 0x200) >> 6); }

}  // namespace

Charsmap::Charsmap(std::string_view bytes, const std::string& where) {
  if (bytes.empty()) return;
  std::uint32_t size = 0;
  TORCH_CHECK(bytes.size() >= sizeof(size), where, ": truncated: ", bytes.size(),
              " bytes hold no compiled map of characters");
  std::memcpy(&size, bytes.data(), sizeof(size));
  bytes.remove_prefix(sizeof(size));
  TORCH_CHECK(size >= sizeof(std::uint32_t) && size % sizeof(std::uint32_t) == 0 &&
                  size < bytes.size() && bytes.back() == 0,
              where, ": not a compiled map of characters: its trie would have ", size, " of ",
              bytes.size(), " bytes");
  units_.resize(size / sizeof(std::uint32_t));
  std::memcpy(units_.data(), bytes.data(), size);
  replacements_ = bytes.substr(size);
  // Unicode's longest has 33 bytes; a text must not grow without bound.
  constexpr std::size_t kLongest = 256;
  for (std::size_t at = 0; at < replacements_.size();) {
    const std::size_t end = replacements_.find('\0', at);
    TORCH_CHECK(end - at <= kLongest, where, ": a character would become ", end - at,
                " bytes, expected at most ", kLongest);
    at = end + 1;
  }
}

Charsmap::Match Charsmap::search(std::string_view text, bool longest) const {
  Match match;
  if (units_.empty()) return match;
  std::size_t node = offset_of(units_[0]);
  for (std::size_t i = 0; i < text.size(); ++i) {
    node ^= static_cast<unsigned char>(text[i]);
    if (node >= units_.size()) break;
    const std::uint32_t unit = units_[node];
    if (label_of(unit) != static_cast<unsigned char>(text[i])) break;
    node ^= offset_of(unit);
    if (node >= units_.size()) break;
    if (!has_leaf(unit)) continue;
    const std::uint32_t value = value_of(units_[node]);
    if (value >= replacements_.size()) break;
    match = {i + 1, replacements_.c_str() + value};
    if (!longest) break;
  }
  return match;
}

}  // namespace rev::data
