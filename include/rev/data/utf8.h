#pragma once

#include <cstddef>
#include <string_view>

namespace rev::data {

/// Where the first byte lies that is not part of text: a sequence that is not UTF-8 (RFC 3629:
/// overlong forms, surrogates and values above U+10FFFF are not) or a NUL. `text.size()` where all
/// of it is text.
std::size_t find_non_text(std::string_view text);

}  // namespace rev::data
