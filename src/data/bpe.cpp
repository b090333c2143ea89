#include "data/bpe.h"

#include <algorithm>
#include <c10/util/Exception.h>
#include <fmt/format.h>
#include <numeric>

#include "data/byte_alphabet.h"
#include "data/character.h"
#include "io/json.h"
#include "rev/data/utf8.h"

namespace rev::data {
namespace {

// Bytes. Where every split of a piece is a join, more would cost too much to prepare; the longest
// that are known have 256.
constexpr std::size_t kLongest = 1024;
// Symbols: up to this, looking at all of them is faster than a heap.
constexpr std::size_t kFew = 64;

std::uint64_t pair_key(std::int32_t left, std::int32_t right) {
  return static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32 |
         static_cast<std::uint32_t>(right);
}

bool spans_words(std::string_view text) {
  for (std::size_t at = text.find(kSpaceSymbol); at != std::string_view::npos;
       at = text.find(kSpaceSymbol, at + 1)) {
    if (at > 0 && (at < 3 || text.substr(at - 3, 3) != kSpaceSymbol)) return true;
  }
  return false;
}

/// Ranks by token: 0 for the largest score, equal ones for equal scores; the token where there are
/// none.
std::vector<std::uint32_t> rank_pieces(const TokenizerSpec& spec) {
  const std::size_t n = spec.pieces.size();
  std::vector<std::uint32_t> order(n), ranks(n);
  std::iota(order.begin(), order.end(), std::uint32_t{0});
  if (spec.scores.empty()) return order;
  const auto score = [&](std::uint32_t i) { return spec.scores[i]; };
  std::stable_sort(order.begin(), order.end(), [&](auto a, auto b) { return score(a) > score(b); });
  std::uint32_t rank = 0;
  for (std::size_t i = 0; i < n; ++i) {
    if (i > 0 && score(order[i]) != score(order[i - 1])) ++rank;
    ranks[order[i]] = rank;
  }
  return ranks;
}

}  // namespace

Bpe::Bpe(const TokenizerSpec& spec, const std::vector<std::string>& texts)
    : texts_(texts),
      types_(spec.types),
      byte_level_(spec.byte_level),
      ignore_merges_(spec.ignore_merges),
      fuse_unknown_(spec.fuse_unknown),
      vocab_(static_cast<std::int32_t>(texts.size())) {
  if (spec.unknown) unknown_ = static_cast<std::int32_t>(*spec.unknown);
  const auto type = [&](std::size_t i) { return types_.empty() ? PieceType::Normal : types_[i]; };
  for (std::size_t i = 0; i < texts.size(); ++i) {
    const bool in_words = type(i) == PieceType::Normal || type(i) == PieceType::Unused ||
                          type(i) == PieceType::UserDefined;
    if (!in_words || texts[i].empty()) continue;
    const auto id = static_cast<std::int32_t>(i);
    if (!ids_.emplace(texts[i], id).second) continue;
    if (type(i) == PieceType::UserDefined) frozen_.insert(texts[i], id);
    has_unused_ |= type(i) == PieceType::Unused;
    if (!byte_level_ && texts[i].size() == character_bytes(texts[i][0])) {
      characters_.emplace(read_character(texts[i]), id);
    }
  }

  byte_ids_.fill(kUnknown);
  if (byte_level_) {
    for (std::size_t b = 0; b < byte_ids_.size(); ++b) {
      byte_ids_[b] = find(std::string(1, static_cast<char>(b)));
    }
  } else if (spec.byte_fallback) {
    byte_ids_ = find_byte_pieces(spec);
    byte_fallback_ = true;
  }
  // Unknown characters that follow each other become one token, spaces among them.
  cuts_at_spaces_ = !byte_level_ && !ignore_merges_ && find(kSpaceSymbol) != kUnknown;
  if (spec.join_pieces) {
    join_all_splits(spec);
  } else {
    join_by_merges(spec);
  }
}

std::int32_t Bpe::find(std::string_view text) const {
  const auto found = ids_.find(text);
  return found == ids_.end() ? kUnknown : found->second;
}

void Bpe::join_by_merges(const TokenizerSpec& spec) {
  std::uint32_t rank = 0;
  for (const auto& [left, right] : spec.merges) {
    const auto id = [&](const std::string& piece) {
      const std::optional<std::string> text = byte_level_ ? from_letters(piece) : piece;
      const std::int32_t found = text ? find(*text) : kUnknown;
      TORCH_CHECK(found != kUnknown, spec.name, ": merge ", rank, " (", io::quoted(left), " and ",
                  io::quoted(right), ") needs the piece ", io::quoted(piece),
                  ", which is not there");
      return found;
    };
    const std::int32_t joined = id(left + right);
    joins_[pair_key(id(left), id(right))] = {rank++, joined};  // of equal ones the last counts
    cuts_at_spaces_ = cuts_at_spaces_ && !spans_words(left + right);
  }
}

void Bpe::join_all_splits(const TokenizerSpec& spec) {
  const std::vector<std::uint32_t> ranks = rank_pieces(spec);
  const auto is_frozen = [&](std::string_view text) {
    const std::int32_t id = find(text);
    return id != kUnknown && !types_.empty() &&
           types_[static_cast<std::size_t>(id)] == PieceType::UserDefined;
  };
  std::int32_t next = vocab_;
  for (std::size_t i = 0; i < texts_.size(); ++i) {
    const std::string_view text = texts_[i];
    if (find(text) != static_cast<std::int32_t>(i)) continue;
    cuts_at_spaces_ = cuts_at_spaces_ && !spans_words(text);
    if (is_frozen(text)) continue;
    TORCH_CHECK(text.size() <= kLongest, spec.name, ": piece ", i, " has ", text.size(),
                " bytes, expected at most ", kLongest);
    // SentencePiece joins characters that are no pieces themselves: they are symbols here.
    const auto symbol = [&](std::string_view part) {
      if (is_frozen(part)) return kUnknown;
      const std::int32_t id = find(part);
      if (id != kUnknown || byte_level_ || part.size() != character_bytes(part[0])) return id;
      const auto [made, is_new] = characters_.emplace(read_character(part), next);
      if (is_new) ++next;
      return made->second;
    };
    for (std::size_t at = 1; at < text.size(); ++at) {
      if (!byte_level_ && (text[at] & 0xC0) == 0x80) continue;
      const std::int32_t left = symbol(text.substr(0, at));
      if (left == kUnknown) continue;
      const std::int32_t right = symbol(text.substr(at));
      if (right != kUnknown) {
        joins_[pair_key(left, right)] = {ranks[i], static_cast<std::int32_t>(i)};
      }
    }
  }
}

// ---- encoding

void Bpe::encode_word(std::string_view word, Scratch& scratch, TokenIds& out) const {
  if (ignore_merges_) {
    if (const std::int32_t id = find(word); id != kUnknown) return out.push_back(id);
  }
  TORCH_CHECK(word.size() < std::size_t{1} << 31, "encode: a word of ", word.size(),
              " bytes, expected less than 2^31");
  std::vector<Symbol>& symbols = scratch.symbols;
  begin(word, symbols);
  scratch.parts.clear();
  for (Symbol& symbol : symbols) look_up(symbol, symbols);
  if (symbols.size() <= kFew) {
    merge_few(scratch);
  } else {
    merge_many(scratch);
  }
  bool was_unknown = false;
  for (std::int32_t i = symbols.empty() ? -1 : 0; i >= 0;) {
    const Symbol& symbol = symbols[static_cast<std::size_t>(i)];
    emit(symbol, word, scratch, was_unknown, out);
    i = symbol.after;
  }
}

void Bpe::begin(std::string_view word, std::vector<Symbol>& symbols) const {
  symbols.clear();
  for (std::size_t at = 0; at < word.size();) {
    std::size_t bytes = 1;
    std::int32_t id = kUnknown;
    if (byte_level_) {
      id = byte_ids_[static_cast<unsigned char>(word[at])];
    } else if (const auto frozen = frozen_.longest(word.substr(at)); frozen.length > 0) {
      bytes = frozen.length;
      id = frozen.value;
    } else {
      bytes = character_bytes(word[at]);
      const auto found = characters_.find(read_character(word.substr(at)));
      if (found != characters_.end()) id = found->second;
    }
    if (id == kUnknown && unknown_ == kUnknown && !byte_fallback_) {
      at += bytes;  // nothing can say that it was here, so that its neighbours meet
      continue;
    }
    const auto index = static_cast<std::int32_t>(symbols.size());
    symbols.push_back({id, static_cast<std::uint32_t>(at), static_cast<std::uint32_t>(bytes),
                       index - 1, index + 1, kNever, kUnknown});
    at += bytes;
  }
  if (!symbols.empty()) symbols.back().after = -1;
}

void Bpe::look_up(Symbol& left, const std::vector<Symbol>& symbols) const {
  left.rank = kNever;
  if (left.after < 0) return;
  const Symbol& right = symbols[static_cast<std::size_t>(left.after)];
  if (left.id == kUnknown || right.id == kUnknown) return;
  const auto found = joins_.find(pair_key(left.id, right.id));
  if (found == joins_.end()) return;
  left.rank = found->second.rank;
  left.joined = found->second.joined;
}

void Bpe::join(std::int32_t index, Scratch& scratch) const {
  std::vector<Symbol>& symbols = scratch.symbols;
  Symbol& left = symbols[static_cast<std::size_t>(index)];
  Symbol& right = symbols[static_cast<std::size_t>(left.after)];
  if (has_unused_ && types_[static_cast<std::size_t>(left.joined)] == PieceType::Unused) {
    scratch.parts[left.joined] = {left.id, right.id};
  }
  left.id = left.joined;
  left.bytes += right.bytes;
  left.after = right.after;
  right.bytes = 0;
  right.rank = kNever;
  if (left.after >= 0) symbols[static_cast<std::size_t>(left.after)].before = index;
  look_up(left, symbols);
  if (left.before >= 0) look_up(symbols[static_cast<std::size_t>(left.before)], symbols);
}

void Bpe::merge_few(Scratch& scratch) const {
  const std::vector<Symbol>& symbols = scratch.symbols;
  for (;;) {
    std::int32_t best = -1;
    std::uint32_t rank = kNever;
    for (std::size_t i = 0; i < symbols.size(); ++i) {
      if (symbols[i].rank < rank) {
        rank = symbols[i].rank;
        best = static_cast<std::int32_t>(i);
      }
    }
    if (best < 0) return;
    join(best, scratch);
  }
}

void Bpe::merge_many(Scratch& scratch) const {
  const std::vector<Symbol>& symbols = scratch.symbols;
  auto& heap = scratch.heap;
  heap.clear();
  const auto later = [](const auto& a, const auto& b) {
    return a.rank != b.rank ? a.rank > b.rank : a.left > b.left;
  };
  const auto push = [&](std::int32_t i) {
    if (i < 0) return;
    const std::uint32_t rank = symbols[static_cast<std::size_t>(i)].rank;
    if (rank == kNever) return;
    heap.push_back({rank, i});
    std::push_heap(heap.begin(), heap.end(), later);
  };
  for (std::size_t i = 0; i < symbols.size(); ++i) push(static_cast<std::int32_t>(i));
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), later);
    const Scratch::Candidate top = heap.back();
    heap.pop_back();
    // One that was made before a neighbour changed is of another rank now, or of none.
    if (symbols[static_cast<std::size_t>(top.left)].rank != top.rank) continue;
    join(top.left, scratch);
    push(top.left);
    push(symbols[static_cast<std::size_t>(top.left)].before);
  }
}

void Bpe::emit(const Symbol& symbol, std::string_view word, const Scratch& scratch,
               bool& was_unknown, TokenIds& out) const {
  if (symbol.id != kUnknown && symbol.id < vocab_) {
    was_unknown = false;
    return emit_parts(symbol.id, scratch, out);
  }
  if (byte_fallback_) {
    for (const char c : word.substr(symbol.begin, symbol.bytes)) {
      out.push_back(byte_ids_[static_cast<unsigned char>(c)]);
    }
    return;
  }
  // A model without an unknown token cannot say that something was here.
  if (unknown_ != kUnknown && !(was_unknown && fuse_unknown_)) out.push_back(unknown_);
  was_unknown = true;
}

void Bpe::emit_parts(std::int32_t id, const Scratch& scratch, TokenIds& out) const {
  const auto parts = scratch.parts.find(id);
  if (!has_unused_ || parts == scratch.parts.end()) return out.push_back(id);
  emit_parts(parts->second.first, scratch, out);
  emit_parts(parts->second.second, scratch, out);
}

}  // namespace rev::data
