#include <algorithm>
#include <c10/util/Exception.h>
#include <iterator>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "data/added_tokens.h"
#include "data/bpe.h"
#include "data/byte_alphabet.h"
#include "data/character.h"
#include "data/normaliser.h"
#include "data/pattern.h"
#include "data/splitter.h"
#include "data/tokenizer_spec.h"
#include "data/unigram.h"
#include "data/word_cache.h"
#include "rev/data/utf8.h"

namespace rev::data {
namespace {

// Bytes. Viterbi's table has a row for each: a longer text is cut, at a space where that can be.
constexpr std::size_t kLongestText = std::size_t{1} << 20;

using Algorithm = TokenizerSpec::Algorithm;

class Pipeline final : public Tokenizer {
 public:
  explicit Pipeline(TokenizerSpec spec)
      : spec_(checked(std::move(spec))),
        digest_(data::digest(spec_)),
        normaliser_(spec_, user_defined(spec_)),
        splitter_(spec_),
        model_(make_model()) {
    for (const AddedToken& token : spec_.added) add(token);
    cuts_at_spaces_ = std::holds_alternative<Bpe>(model_) && !spec_.byte_level &&
                      spec_.split.empty() && std::get<Bpe>(model_).cuts_at_spaces();
    prepare_decoding();
  }

  std::int64_t vocab() const override { return static_cast<std::int64_t>(spec_.pieces.size()); }
  std::string piece(std::int64_t token) const override { return spec_.pieces[index(token)]; }
  std::optional<std::int64_t> find(std::string_view piece) const override {
    const auto found = std::find(spec_.pieces.begin(), spec_.pieces.end(), piece);
    if (found == spec_.pieces.end() || piece.empty()) return std::nullopt;
    return std::distance(spec_.pieces.begin(), found);
  }
  bool is_special(std::int64_t token) const override { return special_[index(token)]; }
  std::optional<std::int64_t> bos() const override { return spec_.bos; }
  std::optional<std::int64_t> eos() const override { return spec_.eos; }
  const std::string& chat_template() const override { return spec_.chat_template; }
  std::uint64_t digest() const override { return digest_; }

 private:
  struct Scratch {
    PatternScratch patterns;
    WordCache words;
    Bpe::Scratch bpe;
    Unigram::Scratch unigram;
  };
  /// A scratch of this thread's for a while; the next one finds its words known.
  class Lease {
   public:
    explicit Lease(const Pipeline& of) : of_(of) {
      {
        const std::lock_guard<std::mutex> lock(of.mutex_);
        if (!of.idle_.empty()) {
          scratch_ = std::move(of.idle_.back());
          of.idle_.pop_back();
        }
      }
      if (!scratch_) scratch_ = std::make_unique<Scratch>();
    }
    ~Lease() {
      const std::lock_guard<std::mutex> lock(of_.mutex_);
      of_.idle_.push_back(std::move(scratch_));
    }
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    Scratch& operator*() const { return *scratch_; }

   private:
    const Pipeline& of_;
    std::unique_ptr<Scratch> scratch_;
  };

  static TokenizerSpec checked(TokenizerSpec spec) {
    check_spec(spec);
    return spec;
  }

  static Trie user_defined(const TokenizerSpec& spec) {
    Trie pieces;
    for (std::size_t i = 0; i < spec.types.size(); ++i) {
      if (spec.types[i] != PieceType::UserDefined || spec.byte_level) continue;
      pieces.insert(spec.pieces[i], static_cast<std::int32_t>(i));
    }
    return pieces;
  }

  std::variant<Bpe, Unigram> make_model() {
    if (spec_.algorithm == Algorithm::Unigram) return Unigram(spec_);
    words_ = spec_.pieces;
    TokenizerSpec& spec = spec_;
    if (spec.types.empty()) spec.types.assign(words_.size(), PieceType::Normal);
    for (std::size_t i = 0; spec.byte_level && i < words_.size(); ++i) {
      const bool is_text = spec.types[i] == PieceType::Normal;
      std::optional<std::string> bytes = is_text ? from_letters(words_[i]) : std::nullopt;
      if (bytes) {
        words_[i] = std::move(*bytes);
      } else if (is_text) {
        spec.types[i] = PieceType::Byte;  // words are not made of it: it is no bytes' letters
      }
    }
    return std::variant<Bpe, Unigram>(std::in_place_type<Bpe>, spec, words_);
  }

  void add(const AddedToken& token) {
    if (!token.normalised) return raw_.insert(token);
    AddedToken normal = token;
    std::string storage;
    PatternScratch scratch;
    if (find_non_utf8(token.text) == token.text.size()) {
      normal.text = normaliser_(token.text, storage, scratch);
    }
    normal_.insert(std::move(normal));
  }

  void prepare_decoding() {
    const std::size_t n = spec_.pieces.size();
    special_.resize(n);
    decoded_ = spec_.byte_level ? words_ : spec_.pieces;
    for (std::size_t i = 0; i < n; ++i) {
      const PieceType type = spec_.types.empty() ? PieceType::Normal : spec_.types[i];
      special_[i] = type == PieceType::Control || type == PieceType::Unknown;
      if (special_[i] || spec_.byte_level) continue;
      const int byte = byte_of(decoded_[i]);
      if (byte >= 0 && (type == PieceType::Byte || spec_.byte_fallback)) {
        decoded_[i] = static_cast<char>(byte);
        continue;
      }
      for (const auto& [from, to] : spec_.replace) decoded_[i] = replace_all(decoded_[i], from, to);
    }
    for (const AddedToken& token : spec_.added) {
      const auto i = static_cast<std::size_t>(token.id);
      special_[i] = token.special;
      decoded_[i] = token.text;
    }
  }

  std::size_t index(std::int64_t token) const {
    TORCH_CHECK(token >= 0 && token < vocab(), "decode: token ", token,
                " is outside of the vocabulary of ", vocab());
    return static_cast<std::size_t>(token);
  }

  // ---- encoding

  void append_tokens(std::string_view text, const EncodeOptions& options,
                     TokenIds& out) const override {
    const Lease lease(*this);
    Scratch& scratch = *lease;
    if (options.add_special) out.insert(out.end(), spec_.before.begin(), spec_.before.end());
    raw_.cut(
        text, options.parse_special,
        [&](std::string_view part) {
          const bool first = part.data() == text.data();
          if (spec_.byte_level) {
            append_mixed(part, first, options, scratch, out);
          } else if (find_non_utf8(part) < part.size()) {
            append_text(replace_non_utf8(part, Replace::Byte), first, options, scratch, out);
          } else {
            append_text(part, first, options, scratch, out);
          }
        },
        [&](std::int64_t token) { out.push_back(token); });
    if (options.add_special) out.insert(out.end(), spec_.after.begin(), spec_.after.end());
  }

  /// Text, and runs of bytes that are none, by turns.
  void append_mixed(std::string_view text, bool first, const EncodeOptions& options,
                    Scratch& scratch, TokenIds& out) const {
    for (; !text.empty(); first = false) {
      const std::size_t valid = find_non_utf8(text);
      append_text(text.substr(0, valid), first, options, scratch, out);
      text.remove_prefix(valid);
      if (text.empty()) return;
      const std::size_t invalid = count_non_utf8(text);
      append_word(text.substr(0, invalid), scratch, out);
      text.remove_prefix(invalid);
    }
  }

  void append_text(std::string_view text, bool first, const EncodeOptions& options,
                   Scratch& scratch, TokenIds& out) const {
    if (text.empty()) return;
    std::string storage;
    const std::string_view normal = normaliser_(text, storage, scratch.patterns);
    normal_.cut(
        normal, options.parse_special,
        [&](std::string_view part) {
          splitter_(part, first && part.data() == normal.data(), scratch.patterns,
                    [&](std::string_view word) { append_split_word(word, scratch, out); });
        },
        [&](std::int64_t token) { out.push_back(token); });
  }

  void append_split_word(std::string_view word, Scratch& scratch, TokenIds& out) const {
    const bool is_unigram = std::holds_alternative<Unigram>(model_);
    while (cuts_at_spaces_ || (is_unigram && word.size() > kLongestText)) {
      const std::size_t end = find_cut(word, cuts_at_spaces_ ? 1 : kLongestText);
      if (end == word.size()) break;
      append_word(word.substr(0, end), scratch, out);
      word.remove_prefix(end);
    }
    append_word(word, scratch, out);
  }

  /// The first place at or after `from` where a space begins that follows something else.
  static std::size_t find_cut(std::string_view word, std::size_t from) {
    for (std::size_t at = from;; ++at) {
      at = word.find(kSpaceSymbol, at);
      if (at == std::string_view::npos) return word.size();
      if (at >= 3 && word.substr(at - 3, 3) != kSpaceSymbol) return at;
      if (at > 0 && at < 3) return at;
    }
  }

  void append_word(std::string_view word, Scratch& scratch, TokenIds& out) const {
    if (const Unigram* unigram = std::get_if<Unigram>(&model_)) {
      return unigram->encode_word(word, scratch.unigram, out);
    }
    const Bpe& bpe = std::get<Bpe>(model_);
    if (word.size() > WordCache::kLongest) return bpe.encode_word(word, scratch.bpe, out);
    if (scratch.words.append(word, out)) return;
    const std::size_t begin = out.size();
    bpe.encode_word(word, scratch.bpe, out);
    scratch.words.insert(word, out.data() + begin, out.size() - begin);
  }

  // ---- decoding

  void append_bytes(const TokenIds& tokens, bool skip_special, std::string& out) const override {
    const std::size_t begin = out.size();
    for (const std::int64_t token : tokens) {
      const std::size_t i = index(token);
      if (skip_special && special_[i]) continue;
      out += decoded_[i];
    }
    if (spec_.byte_level) return;
    std::size_t spaces = 0;
    while (spaces < static_cast<std::size_t>(spec_.strip) && begin + spaces < out.size() &&
           out[begin + spaces] == ' ') {
      ++spaces;
    }
    out.erase(begin, spaces);
  }

  TokenizerSpec spec_;
  std::uint64_t digest_;
  std::vector<std::string> words_;  // pieces as they stand in words
  Normaliser normaliser_;
  Splitter splitter_;
  std::variant<Bpe, Unigram> model_;
  AddedTokens raw_, normal_;  // looked for before and after normalisation
  bool cuts_at_spaces_ = false;
  std::vector<std::string> decoded_;  // by token
  std::vector<bool> special_;         // by token
  mutable std::mutex mutex_;
  mutable std::vector<std::unique_ptr<Scratch>> idle_;
};

}  // namespace

TokenizerPtr make_tokenizer(TokenizerSpec spec) {
  return std::make_shared<Pipeline>(std::move(spec));
}

}  // namespace rev::data
