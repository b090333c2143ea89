#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "data/tokenizer_spec.h"
#include "rev/io/checksum.h"

namespace rev::data {
namespace {

/// Values one after the other, each of a length that its bytes say.
class Bytes {
 public:
  template <class... T>
  void add(const T&... values) {
    (put(values), ...);
  }
  const std::string& text() const { return text_; }

 private:
  template <class T>
  void put(const T& value) {
    static_assert(std::is_arithmetic_v<T> || std::is_enum_v<T>);
    text_.append(reinterpret_cast<const char*>(&value), sizeof(value));
  }
  void put(const std::string& value) { add(value.size()), text_ += value; }
  template <class T>
  void put(const std::vector<T>& values) {
    add(values.size());
    for (const T& value : values) put(value);
  }
  template <class T>
  void put(const std::optional<T>& value) {
    add(value.has_value(), value.value_or(T()));
  }
  template <class A, class B>
  void put(const std::pair<A, B>& pair) {
    add(pair.first, pair.second);
  }
  // Bound by name and all: a member that is new does not compile until it is here.
  void put(const AddedToken& token) {
    const auto& [text, id, special, normalised, single_word, strip_left, strip_right] = token;
    add(text, id, special, normalised, single_word, strip_left, strip_right);
  }
  void put(const NormalStep& step) {
    const auto& [kind, from, to] = step;
    add(kind, from, to);
  }
  void put(const SplitStep& step) {
    const auto& [kind, pattern, behaviour, invert, individual, split, prepend] = step;
    add(kind, pattern, behaviour, invert, individual, split, prepend);
  }
  void put(const SentencePieceRules& rules) {
    const auto& [charsmap, prefix, remove_extra, escape, as_suffix] = rules;
    add(charsmap, prefix, remove_extra, escape, as_suffix);
  }

  std::string text_;
};

}  // namespace

std::uint64_t digest(const TokenizerSpec& spec) {
  const auto& [name, algorithm, pieces, types, scores, merges, join_pieces, byte_level,
               byte_fallback, ignore_merges, fuse_unknown, single_precision, added, normalise,
               sentencepiece, split, before, after, replace, strip, bos, eos, unknown,
               chat_template] = spec;
  Bytes bytes;  // the name and the chat template change no tokens
  bytes.add(algorithm, pieces, types, scores, merges, join_pieces, byte_level, byte_fallback,
            ignore_merges, fuse_unknown, single_precision, added, normalise, sentencepiece, split,
            before, after, replace, strip, bos, eos, unknown);
  return io::checksum(bytes.text().data(), bytes.text().size());
}

}  // namespace rev::data
