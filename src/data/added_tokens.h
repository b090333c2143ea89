#pragma once

#include <c10/util/FunctionRef.h>
#include <cstdint>
#include <string_view>
#include <vector>

#include "data/tokenizer_spec.h"
#include "data/trie.h"

namespace rev::data {

/// Tokens that are cut out of a text: at each place the longest, from left to right.
class AddedTokens {
 public:
  void insert(AddedToken token);

  /// Calls `text` for what lies between tokens, where that is not empty, and `found` for tokens.
  void cut(std::string_view text, bool parse_special,
           c10::function_ref<void(std::string_view)> between,
           c10::function_ref<void(std::int64_t)> found) const;

 private:
  std::vector<AddedToken> tokens_;
  Trie trie_;  // of indices in tokens_
};

}  // namespace rev::data
