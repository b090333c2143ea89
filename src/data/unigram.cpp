#include "data/unigram.h"

#include <algorithm>
#include <c10/util/Exception.h>
#include <limits>

#include "rev/data/utf8.h"

namespace rev::data {
namespace {

// An unknown character costs this much more than the least likely piece: SentencePiece's number, as
// is the score of user-defined pieces, which few others reach.
constexpr double kUnknownPenalty = 10;
constexpr double kUserDefinedScore = -0.1;

}  // namespace

Unigram::Unigram(const TokenizerSpec& spec)
    : scores_(spec.scores),
      byte_fallback_(spec.byte_fallback),
      fuse_unknown_(spec.fuse_unknown),
      single_precision_(spec.single_precision) {
  const std::size_t n = spec.pieces.size();
  TORCH_CHECK(scores_.size() == n, spec.name, ": expected a score for each of ", n, " pieces, got ",
              scores_.size());
  TORCH_CHECK(spec.unknown, spec.name, ": a unigram model needs an unknown token");
  unknown_ = static_cast<std::int32_t>(*spec.unknown);
  double least = std::numeric_limits<double>::max();
  for (std::size_t i = 0; i < n; ++i) {
    const PieceType type = spec.types.empty() ? PieceType::Normal : spec.types[i];
    if (type == PieceType::Normal) least = std::min(least, scores_[i]);
    if (type == PieceType::UserDefined) scores_[i] = kUserDefinedScore;
    if (type == PieceType::Normal || type == PieceType::UserDefined) {
      pieces_.insert(spec.pieces[i], static_cast<std::int32_t>(i));
    }
  }
  TORCH_CHECK(!pieces_.empty(), spec.name, ": a unigram model needs pieces of text");
  unknown_score_ = single_precision_
                       ? static_cast<float>(least) - static_cast<float>(kUnknownPenalty)
                       : least - kUnknownPenalty;
  if (byte_fallback_) byte_ids_ = find_byte_pieces(spec);
}

template <class Score>
void Unigram::search(std::string_view word, std::vector<Scratch::Best>& best) const {
  best.assign(word.size() + 1, {0, -1, -1});
  for (std::size_t at = 0; at < word.size();) {
    // A sum is kept in Score but compared before it is rounded, which decides between equal ways.
    const double so_far = best[at].score;
    const auto reach = [&](std::size_t end, std::int32_t piece, double sum) {
      if (best[end].begin >= 0 && !(sum > best[end].score)) return;
      best[end] = {static_cast<Score>(sum), piece, static_cast<std::int32_t>(at)};
    };
    const std::size_t character = character_bytes(word[at]);
    bool has_character = false;
    std::int32_t node = pieces_.start(static_cast<unsigned char>(word[at]));
    for (std::size_t end = at + 1; node != Trie::kNowhere; ++end) {
      if (const std::int32_t piece = pieces_.value(node); piece != Trie::kNowhere) {
        reach(end, piece, scores_[static_cast<std::size_t>(piece)] + so_far);
        has_character |= end - at == character;
      }
      if (end == word.size()) break;
      node = pieces_.step(node, static_cast<unsigned char>(word[end]));
    }
    if (!has_character) {
      reach(at + character, unknown_, static_cast<Score>(unknown_score_ + so_far));
    }
    at += character;
  }
}

void Unigram::encode_word(std::string_view word, Scratch& scratch, TokenIds& out) const {
  TORCH_CHECK(word.size() < std::size_t{1} << 31, "encode: a word of ", word.size(),
              " bytes, expected less than 2^31");
  if (single_precision_) {
    search<float>(word, scratch.best);
  } else {
    search<double>(word, scratch.best);
  }
  scratch.ends.clear();
  for (auto end = static_cast<std::int32_t>(word.size()); end > 0;
       end = scratch.best[static_cast<std::size_t>(end)].begin) {
    scratch.ends.push_back(end);
  }
  bool was_unknown = false;
  for (auto end = scratch.ends.rbegin(); end != scratch.ends.rend(); ++end) {
    const Scratch::Best& last = scratch.best[static_cast<std::size_t>(*end)];
    const bool is_unknown = last.piece == unknown_;
    if (is_unknown && byte_fallback_) {
      const auto begin = static_cast<std::size_t>(last.begin);
      for (const char c : word.substr(begin, static_cast<std::size_t>(*end) - begin)) {
        out.push_back(byte_ids_[static_cast<unsigned char>(c)]);
      }
    } else if (!(is_unknown && was_unknown && fuse_unknown_)) {
      out.push_back(last.piece);
    }
    was_unknown = is_unknown;
  }
}

}  // namespace rev::data
