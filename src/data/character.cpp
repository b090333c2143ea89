#include "data/character.h"

#include <utf8proc.h>
#include <utility>

#include "rev/data/utf8.h"

namespace rev::data {
namespace {

utf8proc_category_t category(char32_t c) {
  return utf8proc_category(static_cast<utf8proc_int32_t>(c));
}

}  // namespace

bool is_space(char32_t c) {
  if (c < 0x80) return c == ' ' || (c >= '\t' && c <= '\r');
  const utf8proc_category_t kind = category(c);
  return c == 0x85 || kind == UTF8PROC_CATEGORY_ZS || kind == UTF8PROC_CATEGORY_ZL ||
         kind == UTF8PROC_CATEGORY_ZP;
}

bool is_word(char32_t c) {
  // Letters in circles and squares are symbols that Unicode calls alphabetic; two joiners count
  // too.
  constexpr std::pair<char32_t, char32_t> kMore[] = {{0x24B6, 0x24E9},
                                                     {0x1F130, 0x1F149},
                                                     {0x1F150, 0x1F169},
                                                     {0x1F170, 0x1F189},
                                                     {0x200C, 0x200D}};
  for (const auto& [first, last] : kMore) {
    if (c >= first && c <= last) return true;
  }
  switch (category(c)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
      return true;
    default:
      return false;
  }
}

char32_t read_character_or_fffd(std::string_view text) {
  const std::string_view front = text.substr(0, character_bytes(text[0]));
  return find_non_utf8(front) == front.size() ? read_character(front) : 0xFFFD;
}

std::string_view strip_left(std::string_view text) {
  while (!text.empty() && is_space(read_character_or_fffd(text))) {
    text.remove_prefix(character_bytes(text[0]));
  }
  return text;
}

std::string_view strip_right(std::string_view text) {
  while (!text.empty()) {
    std::size_t at = text.size() - 1;
    while (at > 0 && (text[at] & 0xC0) == 0x80) --at;
    const char32_t c = read_character_or_fffd(text.substr(at));
    if (!is_space(c) || character_bytes(text[at]) != text.size() - at) break;
    text = text.substr(0, at);
  }
  return text;
}

}  // namespace rev::data
