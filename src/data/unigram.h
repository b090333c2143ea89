// The unigram model: of all ways to cut a word into pieces that of the largest sum of scores, found
// by Viterbi's algorithm.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "data/tokenizer_spec.h"
#include "data/trie.h"

namespace rev::data {

class Unigram {
 public:
  explicit Unigram(const TokenizerSpec& spec);

  /// What a thread needs while it encodes: the best way to each byte of the word.
  struct Scratch {
    struct Best {
      double score;
      std::int32_t piece, begin;  // of the piece that ends here; begin -1: none does
    };
    std::vector<Best> best;
    std::vector<std::int32_t> ends;
  };

  /// word: valid UTF-8.
  void encode_word(std::string_view word, Scratch& scratch, TokenIds& out) const;

 private:
  template <class Score>
  void search(std::string_view word, std::vector<Scratch::Best>& best) const;

  Trie pieces_;
  std::vector<double> scores_;  // by token
  double unknown_score_ = 0;
  std::int32_t unknown_;
  bool byte_fallback_, fuse_unknown_, single_precision_;
  std::array<std::int32_t, 256> byte_ids_{};
};

}  // namespace rev::data
