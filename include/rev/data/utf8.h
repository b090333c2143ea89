#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace rev::data {

/// Where the first byte lies that is not part of text: a sequence that is not UTF-8 (RFC 3629:
/// overlong forms, surrogates and values above U+10FFFF are not) or a NUL. `text.size()` where all
/// of it is text.
std::size_t find_non_text(std::string_view text);

/// The same where a NUL is a character as others are.
std::size_t find_non_utf8(std::string_view text);

/// How many bytes `text` begins with that are part of no character.
std::size_t count_non_utf8(std::string_view text);

/// What one U+FFFD stands for.
enum class Replace {
  Byte,     ///< each byte that is part of no character
  Subpart,  ///< each longest part of a character (Unicode's section 3.9)
};

/// Text with U+FFFD in place of what is not UTF-8.
std::string replace_non_utf8(std::string_view text, Replace each);

/// Of UTF-8: bytes of the character that begins with `lead`, and the character at the front of
/// text.
std::size_t character_bytes(char lead);
char32_t read_character(std::string_view text);

/// Appends a character, at most U+10FFFF, as UTF-8.
void append_character(char32_t c, std::string& out);

}  // namespace rev::data
