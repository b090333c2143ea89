// What characters are, by Unicode's properties.
#pragma once

#include <string_view>

namespace rev::data {

/// What stands for a space in SentencePiece's pieces, U+2581.
constexpr std::string_view kSpaceSymbol = "\xE2\x96\x81";

/// Unicode's White_Space.
bool is_space(char32_t c);

/// A letter, mark, digit or connector such as `_`.
bool is_word(char32_t c);

/// The character at the front of text, U+FFFD where that is not UTF-8.
char32_t read_character_or_fffd(std::string_view text);

/// Text without the white space at one of its ends. Bytes that are not UTF-8 are none.
std::string_view strip_left(std::string_view text);
std::string_view strip_right(std::string_view text);

}  // namespace rev::data
