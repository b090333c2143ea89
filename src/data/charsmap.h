#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace rev::data {

/// SentencePiece's compiled map of characters: the byte length of a double array (darts-clone's),
/// the array, a trie of what is replaced; then the replacements, each ended by NUL.
class Charsmap {
 public:
  Charsmap() = default;
  /// Throws c10::Error, naming `where` it stands, for a damaged one. Empty bytes: nothing is
  /// replaced.
  Charsmap(std::string_view bytes, const std::string& where);

  struct Match {
    std::size_t length = 0;  ///< bytes of the text; 0: nothing there is replaced
    std::string_view by;
  };
  Match longest(std::string_view text) const { return search(text, true); }
  Match shortest(std::string_view text) const { return search(text, false); }

 private:
  Match search(std::string_view text, bool longest) const;

  std::vector<std::uint32_t> units_;
  std::string replacements_;  // NUL at its end
};

}  // namespace rev::data
