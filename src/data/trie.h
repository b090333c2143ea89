#pragma once

#include <array>
#include <c10/util/flat_hash_map.h>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace rev::data {

/// Strings of bytes with a value each, found as prefixes of a text.
class Trie {
 public:
  static constexpr std::int32_t kNowhere = -1;

  Trie() { root_.fill(kNowhere); }

  /// The first value that a string is given stays.
  void insert(std::string_view text, std::int32_t value) {
    std::int32_t node = kNowhere;
    for (std::size_t i = 0; i < text.size(); ++i) {
      const auto byte = static_cast<unsigned char>(text[i]);
      const auto fresh = static_cast<std::int32_t>(values_.size());
      std::int32_t& next =
          i == 0 ? root_[byte] : edges_.emplace(edge(node, byte), fresh).first->second;
      if (next == kNowhere) next = fresh;
      if (next == fresh) values_.push_back(kNowhere);
      node = next;
    }
    if (node == kNowhere) return;
    std::int32_t& here = values_[static_cast<std::size_t>(node)];
    if (here == kNowhere) here = value;
  }

  bool empty() const { return values_.empty(); }

  /// The node of a string of one byte, and of one more byte; kNowhere where no string goes on so.
  std::int32_t start(unsigned char byte) const { return root_[byte]; }
  std::int32_t step(std::int32_t node, unsigned char byte) const {
    const auto next = edges_.find(edge(node, byte));
    return next == edges_.end() ? kNowhere : next->second;
  }
  /// The value of the string that ends here; kNowhere where none does.
  std::int32_t value(std::int32_t node) const { return values_[static_cast<std::size_t>(node)]; }

  struct Match {
    std::size_t length = 0;  // bytes; 0: none
    std::int32_t value = kNowhere;
  };

  /// The longest string that `text` begins with and whose value `accept` takes.
  template <class Accept>
  Match longest(std::string_view text, const Accept& accept) const {
    Match best;
    if (text.empty()) return best;
    std::int32_t node = start(static_cast<unsigned char>(text[0]));
    for (std::size_t n = 1; node != kNowhere; ++n) {
      if (value(node) != kNowhere && accept(value(node))) best = {n, value(node)};
      if (n == text.size()) break;
      node = step(node, static_cast<unsigned char>(text[n]));
    }
    return best;
  }
  Match longest(std::string_view text) const {
    return longest(text, [](std::int32_t) { return true; });
  }

 private:
  static std::uint64_t edge(std::int32_t node, unsigned char byte) {
    return static_cast<std::uint64_t>(node) << 8 | byte;
  }

  std::array<std::int32_t, 256> root_;
  ska::flat_hash_map<std::uint64_t, std::int32_t> edges_;
  std::vector<std::int32_t> values_;  // by node
};

}  // namespace rev::data
