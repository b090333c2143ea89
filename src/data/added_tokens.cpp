#include "data/added_tokens.h"

#include <algorithm>
#include <utility>

#include "data/character.h"
#include "rev/data/utf8.h"

namespace rev::data {
namespace {

bool is_word_at(std::string_view text, std::size_t at) {
  return at < text.size() && is_word(read_character_or_fffd(text.substr(at)));
}

bool is_word_before(std::string_view text, std::size_t at) {
  if (at == 0) return false;
  do --at;
  while (at > 0 && (text[at] & 0xC0) == 0x80);
  return is_word_at(text, at);
}

}  // namespace

void AddedTokens::insert(AddedToken token) {
  if (token.text.empty()) return;
  trie_.insert(token.text, static_cast<std::int32_t>(tokens_.size()));
  tokens_.push_back(std::move(token));
}

void AddedTokens::cut(std::string_view text, bool parse_special,
                      c10::function_ref<void(std::string_view)> between,
                      c10::function_ref<void(std::int64_t)> found) const {
  std::size_t done = 0;
  if (!trie_.empty()) {
    for (std::size_t at = 0; at < text.size(); ++at) {
      if (trie_.start(static_cast<unsigned char>(text[at])) == Trie::kNowhere) continue;
      const auto accept = [&](std::int32_t index) {
        return parse_special || !tokens_[static_cast<std::size_t>(index)].special;
      };
      const Trie::Match match = trie_.longest(text.substr(at), accept);
      if (match.length == 0) continue;
      const AddedToken& token = tokens_[static_cast<std::size_t>(match.value)];
      std::size_t begin = at, end = at + match.length;
      if (token.single_word && (is_word_before(text, begin) || is_word_at(text, end))) {
        at = end - 1;
        continue;
      }
      if (token.strip_left) {
        const std::string_view kept = strip_right(text.substr(done, begin - done));
        begin = done + kept.size();
      }
      if (token.strip_right) end = text.size() - strip_left(text.substr(end)).size();
      if (begin > done) between(text.substr(done, begin - done));
      found(token.id);
      done = end;
      at = end - 1;
    }
  }
  if (done < text.size()) between(text.substr(done));
}

}  // namespace rev::data
