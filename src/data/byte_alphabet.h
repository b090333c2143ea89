// GPT-2's alphabet of bytes: printable Latin-1 stands for itself, the other 68 bytes are U+0100 to
// U+0143 in their order. Vocabularies are written in it.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace rev::data {

/// Bytes, each as its letter, in UTF-8.
std::string to_letters(std::string_view bytes);

/// Back; none where a character is no letter of the alphabet.
std::optional<std::string> from_letters(std::string_view letters);

}  // namespace rev::data
