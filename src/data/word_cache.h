#pragma once

#include <c10/util/flat_hash_map.h>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "rev/data/tokenizer.h"

namespace rev::data {

/// Tokens of words that were met: a text's words are few. It forgets all of them when it is full,
/// so its size is bounded (some MiB) whatever the text.
class WordCache {
 public:
  static constexpr std::size_t kLongest = 64;  // bytes; longer words seldom come twice

  /// Appends the tokens of a word that is known. False where it is not.
  bool append(std::string_view word, TokenIds& out) const {
    const auto found = words_.find(word);
    if (found == words_.end()) return false;
    const std::int64_t* tokens = tokens_.data() + found->second.begin;
    out.insert(out.end(), tokens, tokens + found->second.count);
    return true;
  }

  /// word: one that is not known.
  void insert(std::string_view word, const std::int64_t* tokens, std::size_t count) {
    if (bytes_.size() + word.size() > kBytes) {
      words_.clear();
      bytes_.clear();
      tokens_.clear();
    }
    bytes_.reserve(kBytes);  // so that no word in it moves
    const std::size_t begin = bytes_.size();
    bytes_ += word;
    words_.emplace(
        std::string_view(bytes_).substr(begin),
        Tokens{static_cast<std::uint32_t>(tokens_.size()), static_cast<std::uint32_t>(count)});
    tokens_.insert(tokens_.end(), tokens, tokens + count);
  }

 private:
  static constexpr std::size_t kBytes = std::size_t{1} << 19;  // some ten thousand words

  struct Tokens {
    std::uint32_t begin, count;
  };
  ska::flat_hash_map<std::string_view, Tokens> words_;
  std::string bytes_;  // of all words
  TokenIds tokens_;    // of all words
};

}  // namespace rev::data
