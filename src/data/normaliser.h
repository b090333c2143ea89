#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "data/charsmap.h"
#include "data/pattern.h"
#include "data/tokenizer_spec.h"
#include "data/trie.h"

namespace rev::data {

/// Text with every `from`, which is not empty, by `to`.
std::string replace_all(std::string_view text, const std::string& from, const std::string& to);

/// The steps of a spec's `normalise`, one after the other.
class Normaliser {
 public:
  /// protect: pieces that SentencePiece takes as they are (user-defined ones).
  Normaliser(const TokenizerSpec& spec, Trie protect);

  /// text: valid UTF-8. Returns it, or what became of it, which then lies in `storage`.
  std::string_view operator()(std::string_view text, std::string& storage,
                              PatternScratch& scratch) const;

 private:
  struct Step {
    NormalStep step;
    std::optional<Pattern> pattern;
    Charsmap charsmap;
  };

  std::string sentencepiece(std::string_view text, const Charsmap& charsmap) const;

  std::vector<Step> steps_;
  SentencePieceRules rules_;
  Trie protect_;
};

}  // namespace rev::data
