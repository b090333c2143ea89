// Byte pair encoding: a word is a row of symbols, at first its bytes or characters; of all
// neighbours that may join, those of the least rank join first, of equals the leftmost, until none
// may.
#pragma once

#include <array>
#include <c10/util/flat_hash_map.h>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "data/tokenizer_spec.h"
#include "data/trie.h"

namespace rev::data {

class Bpe {
 public:
  /// texts: each piece as it stands in words (bytes, where the spec is byte-level).
  Bpe(const TokenizerSpec& spec, const std::vector<std::string>& texts);

  /// What a thread needs while it encodes.
  struct Scratch {
    struct Symbol {
      std::int32_t id;  // kUnknown: of no piece; beyond the vocabulary: a character that is none
      std::uint32_t begin, bytes;
      std::int32_t before, after;  // neighbours, -1 at the ends
      std::uint32_t rank;          // of joining it with the next
      std::int32_t joined;         // what that gives
    };
    struct Candidate {
      std::uint32_t rank;
      std::int32_t left;
    };
    std::vector<Symbol> symbols;
    std::vector<Candidate> heap;
    std::unordered_map<std::int32_t, std::pair<std::int32_t, std::int32_t>> parts;  // of unused
  };

  void encode_word(std::string_view word, Scratch& scratch, TokenIds& out) const;

  /// Whether words may be cut before each U+2581 that follows another character, since no join
  /// reaches across.
  bool cuts_at_spaces() const { return cuts_at_spaces_; }

 private:
  using Symbol = Scratch::Symbol;
  struct Join {
    std::uint32_t rank;
    std::int32_t joined;
  };

  std::int32_t find(std::string_view text) const;
  void join_all_splits(const TokenizerSpec& spec);
  void join_by_merges(const TokenizerSpec& spec);

  void begin(std::string_view word, std::vector<Symbol>& symbols) const;
  void look_up(Symbol& left, const std::vector<Symbol>& symbols) const;
  void merge_few(Scratch& scratch) const;
  void merge_many(Scratch& scratch) const;
  void join(std::int32_t left, Scratch& scratch) const;
  void emit(const Symbol& symbol, std::string_view word, const Scratch& scratch, bool& was_unknown,
            TokenIds& out) const;
  void emit_parts(std::int32_t id, const Scratch& scratch, TokenIds& out) const;

  static constexpr std::int32_t kUnknown = -1;
  static constexpr std::uint32_t kNever = ~std::uint32_t{0};

  const std::vector<std::string>& texts_;
  std::vector<PieceType> types_;
  bool byte_level_, byte_fallback_ = false, ignore_merges_, fuse_unknown_;
  bool cuts_at_spaces_ = false, has_unused_ = false;
  std::int32_t vocab_;
  std::int32_t unknown_ = kUnknown;
  std::unordered_map<std::string_view, std::int32_t> ids_;  // of pieces that words may be made of
  std::array<std::int32_t, 256> byte_ids_{};  // byte-level's bytes, or byte_fallback's
  ska::flat_hash_map<char32_t, std::int32_t> characters_;
  Trie frozen_;                                    // user-defined pieces, which join with nothing
  ska::flat_hash_map<std::uint64_t, Join> joins_;  // by pair_key
};

}  // namespace rev::data
