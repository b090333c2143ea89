// What a tokenizer is made of, whichever file it came from. The steps are those that Hugging Face's
// tokenizers and SentencePiece perform, in this order:
//
//   added tokens are cut out -> normalise -> split into words -> the algorithm, word by word
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "rev/data/tokenizer.h"

namespace rev::data {

/// Tokens must be below this: what a damaged file may make us reserve. The largest vocabularies
/// have a quarter of it.
constexpr std::int64_t kMaxVocab = std::int64_t{1} << 20;

/// How GPT-2 splits text into words, which is also what "ByteLevel" means in tokenizer.json.
inline constexpr const char* kGpt2Words =
    R"('(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

/// What a piece is; SentencePiece's numbers, and GGUF's.
enum class PieceType : std::uint8_t {
  Normal = 1,
  Unknown = 2,
  Control = 3,
  UserDefined = 4,
  Unused = 5,
  Byte = 6,
};

/// A token that is looked for in the text before anything else is done with it.
struct AddedToken {
  std::string text;
  std::int64_t id = 0;
  bool special = true;       ///< only where EncodeOptions::parse_special says so
  bool normalised = false;   ///< looked for after normalisation, in its own normalised form
  bool single_word = false;  ///< only where no letter, digit or `_` touches it
  bool strip_left = false;   ///< takes the white space before it
  bool strip_right = false;  ///< takes the white space after it
};

/// A step of normalisation.
struct NormalStep {
  enum class Kind {
    Nfc,
    Nfd,
    Nfkc,
    Nfkd,
    Lowercase,       ///< character by character
    Prepend,         ///< `to` before a text that is not empty
    Replace,         ///< every `from` by `to`
    ReplacePattern,  ///< every match of the regular expression `from` by `to`
    StripLeft,       ///< white space
    StripRight,
    Charsmap,       ///< SentencePiece's compiled map in `from`, applied as Hugging Face does
    SentencePiece,  ///< all that SentencePiece does, by the `SentencePieceRules`
  };
  Kind kind = Kind::Nfc;
  std::string from, to;
};

/// NormalizerSpec of a SentencePiece model.
struct SentencePieceRules {
  std::string charsmap;  ///< compiled map of characters; empty: none
  bool add_dummy_prefix = true;
  bool remove_extra_whitespaces = true;
  bool escape_whitespaces = true;           ///< spaces become U+2581
  bool treat_whitespace_as_suffix = false;  ///< the dummy stands at the end
};

/// A step that cuts a text into words.
struct SplitStep {
  enum class Kind {
    Pattern,      ///< at matches of a regular expression
    Text,         ///< at every `pattern`, literally
    Digits,       ///< at numeric characters (category N), one by one or as runs (`individual`)
    Metaspace,    ///< spaces become `pattern`; cut before each where `split`
    PrefixSpace,  ///< a space before a word that begins with none
  };
  /// What becomes of a match.
  enum class Behaviour { Removed, Isolated, MergedWithPrevious, MergedWithNext, Contiguous };
  enum class Prepend { Never, First, Always };

  Kind kind = Kind::Pattern;
  std::string pattern;
  Behaviour behaviour = Behaviour::Isolated;
  bool invert = false;                ///< matches are what lies between matches
  bool individual = true;             ///< of Digits
  bool split = true;                  ///< of Metaspace
  Prepend prepend = Prepend::Always;  ///< of Metaspace: where `pattern` is put at the front
};

struct TokenizerSpec {
  enum class Algorithm { Bpe, Unigram };

  std::string name;  ///< of the file, for messages
  Algorithm algorithm = Algorithm::Bpe;

  /// By token, as the file spells them; an empty one stands for nothing. Where `byte_level`, in
  /// GPT-2's alphabet of bytes.
  std::vector<std::string> pieces;
  std::vector<PieceType> types;  ///< by token; all Normal where empty
  std::vector<double> scores;    ///< by token: Unigram's log-probabilities, or BPE's (see below)

  /// Pairs that BPE joins, the first one first.
  std::vector<std::pair<std::string, std::string>> merges;

  /// Instead, any two neighbours join whose concatenation is a piece: that of the largest score
  /// first, or of the smallest token where there are no scores.
  bool join_pieces = false;

  bool byte_level = false;        ///< words are bytes, not characters
  bool byte_fallback = false;     ///< an unknown character becomes tokens `<0x00>` to `<0xFF>`
  bool ignore_merges = false;     ///< a word that is a piece is that token, whatever merges say
  bool fuse_unknown = true;       ///< a run of unknown characters is one unknown token
  bool single_precision = false;  ///< Unigram: sums of scores are float32, as SentencePiece's

  std::vector<AddedToken> added;
  std::vector<NormalStep> normalise;
  SentencePieceRules sentencepiece;
  std::vector<SplitStep> split;
  TokenIds before, after;  ///< EncodeOptions::add_special puts these there

  /// Decoding, where not `byte_level`: every `from` by `to` in each piece, then as many spaces as
  /// `strip` says off the front of the text.
  std::vector<std::pair<std::string, std::string>> replace;
  std::int64_t strip = 0;

  std::optional<std::int64_t> bos, eos, unknown;
  std::string chat_template;
};

/// Throws c10::Error with one sentence that names the spec, and the piece, merge, pattern or step
/// that cannot be.
TokenizerPtr make_tokenizer(TokenizerSpec spec);

/// The steps that split text as a known model does: gpt2, smollm, llama3 or qwen2 (whose text is
/// also normalised, by NFC). Throws c10::Error for another name, with those that are known.
void set_words(TokenizerSpec& spec, const std::string& model);

/// Throws c10::Error where sizes differ, a token is outside of the vocabulary, a piece is not
/// UTF-8, a score is not a number, or steps are more or lengthen a text more than any tokenizer's.
void check_spec(const TokenizerSpec& spec);

/// The same where texts become the same tokens and tokens the same text, by the same parts.
std::uint64_t digest(const TokenizerSpec& spec);

/// The byte that a piece such as `<0x0A>` stands for; -1 for any other piece.
int byte_of(std::string_view piece);

/// The tokens `<0x00>` to `<0xFF>`. Throws c10::Error where one is missing.
std::array<std::int32_t, 256> find_byte_pieces(const TokenizerSpec& spec);

}  // namespace rev::data
