// Texts to numbers and back. Who needs a vocabulary's file uses `open_tokenizer`.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace rev::data {

/// Tokens, each in [0, V).
using TokenIds = std::vector<std::int64_t>;

struct EncodeOptions {
  /// Put the tokens that the model expects before and after a text (such as `<s>`) there.
  bool add_special = false;
  /// Read special tokens that are spelled out in the text (such as `<|im_end|>`) as those tokens.
  /// Off, they are ordinary text: what texts of strangers need.
  bool parse_special = true;
};

/// A vocabulary and the rules by which texts become its tokens. It does not change once it is made:
/// several threads may use one at a time.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  Tokenizer() = default;
  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;

  /// The tokens of a text.
  /// What the vocabulary lacks becomes its unknown token, or nothing where it has none (SmolLM2's
  /// lacks 21 bytes). Where text is not UTF-8, byte-level tokenizers encode its bytes as they are,
  /// each run of them a word; those of characters read U+FFFD for each, as SentencePiece does.
  /// Throws c10::Error where a pattern from the tokenizer's file gives up on the text.
  TokenIds encode(std::string_view text, const EncodeOptions& options = {}) const;

  /// The bytes that tokens stand for. They may end amid a character, where the tokens do.
  /// skip_special: leave special tokens out instead of spelling them.
  /// Throws c10::Error for a token outside of the vocabulary.
  std::string decode_bytes(const TokenIds& tokens, bool skip_special = false) const;

  /// As text: the same with U+FFFD in place of each stretch that is no UTF-8 (a maximal subpart,
  /// Unicode's section 3.9).
  std::string decode(const TokenIds& tokens, bool skip_special = false) const;

  /// What stands between two texts that are read as one: the token that ends a text, or the tokens
  /// of a newline where there is none.
  TokenIds between_texts() const;

  /// V: one more than the largest token, those between that stand for nothing included.
  virtual std::int64_t vocab() const = 0;

  /// A token as its file spells it: `\u0120the` where bytes are written in GPT-2's alphabet,
  /// `\u2581the` where spaces are; empty where the token stands for nothing. Throws c10::Error for
  /// a token outside of the vocabulary.
  virtual std::string piece(std::int64_t token) const = 0;

  /// The token that is spelled so; none where there is no such.
  virtual std::optional<std::int64_t> find(std::string_view piece) const = 0;

  /// Whether a token marks something instead of standing for text (such as `<s>`).
  virtual bool is_special(std::int64_t token) const = 0;

  /// What begins a text, and what ends one, where the file says.
  virtual std::optional<std::int64_t> bos() const = 0;
  virtual std::optional<std::int64_t> eos() const = 0;

  /// The Jinja template by which conversations become text; empty where the file has none. See
  /// chat_template.h.
  virtual const std::string& chat_template() const = 0;

  /// 64 bits that are others where any part of what makes tokens of texts, or texts of tokens, is:
  /// against mistakes, not against intent.
  virtual std::uint64_t digest() const = 0;

 private:
  virtual void append_tokens(std::string_view text, const EncodeOptions& options,
                             TokenIds& out) const = 0;
  virtual void append_bytes(const TokenIds& tokens, bool skip_special, std::string& out) const = 0;
};

using TokenizerPtr = std::shared_ptr<const Tokenizer>;

/// Every byte is its own token, V is 256: no special tokens, nothing is ever lost.
TokenizerPtr byte_tokenizer();

}  // namespace rev::data
