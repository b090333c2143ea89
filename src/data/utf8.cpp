#include "rev/data/utf8.h"

#include <cstdint>
#include <cstring>

namespace rev::data {
namespace {

/// Whether all eight bytes are ASCII and none is NUL: a borrow into bit 7 shows a zero byte.
bool is_plain(const char* bytes) {
  constexpr std::uint64_t kOnes = 0x0101010101010101;
  constexpr std::uint64_t kHigh = 0x8080808080808080;
  std::uint64_t word;
  std::memcpy(&word, bytes, sizeof(word));
  return ((word | (word - kOnes)) & kHigh) == 0;
}

/// How a sequence of bytes begins: with a character, or with what is none.
struct Start {
  std::size_t length;  ///< bytes: of the character, or of the longest part of one (at least 1)
  bool whole;
};

Start read_start(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) return {1, true};
  const std::size_t length = lead < 0xC2   ? 0
                             : lead < 0xE0 ? 2
                             : lead < 0xF0 ? 3
                             : lead < 0xF5 ? 4
                                           : 0;
  if (length == 0) return {1, false};
  // The second byte's range is narrower after four of the leads.
  const unsigned char low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;   // else overlong
  const unsigned char high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;  // else no character
  for (std::size_t i = 1; i < length; ++i) {
    if (i == text.size()) return {i, false};
    if (byte(i) < (i == 1 ? low : 0x80) || byte(i) > (i == 1 ? high : 0xBF)) return {i, false};
  }
  return {length, true};
}

}  // namespace

std::size_t find_non_text(std::string_view text) {
  std::size_t at = 0;
  while (at < text.size()) {
    while (at + 8 <= text.size() && is_plain(text.data() + at)) at += 8;
    if (at == text.size()) break;
    const Start start = read_start(text.substr(at));
    if (!start.whole || text[at] == 0) return at;
    at += start.length;
  }
  return at;
}

std::size_t find_non_utf8(std::string_view text) {
  std::size_t at = 0;
  while (at < text.size()) {
    at += find_non_text(text.substr(at));
    if (at == text.size() || text[at] != 0) break;
    ++at;
  }
  return at;
}

std::size_t count_non_utf8(std::string_view text) {
  std::size_t at = 0;
  while (at < text.size()) {
    const Start start = read_start(text.substr(at));
    if (start.whole) break;
    at += start.length;
  }
  return at;
}

std::string replace_non_utf8(std::string_view text, Replace each) {
  std::string out;
  for (;;) {
    const std::size_t valid = find_non_utf8(text);
    out.append(text.substr(0, valid));
    text.remove_prefix(valid);
    if (text.empty()) return out;
    out.append("\xEF\xBF\xBD");
    text.remove_prefix(each == Replace::Byte ? 1 : read_start(text).length);
  }
}

std::size_t character_bytes(char lead) {
  const auto byte = static_cast<unsigned char>(lead);
  return byte < 0xC0 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
}

char32_t read_character(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<char32_t>(text[i] & 0xFF); };
  switch (character_bytes(text[0])) {
    case 1:
      return byte(0);
    case 2:
      return (byte(0) & 0x1F) << 6 | (byte(1) & 0x3F);
    case 3:
      return (byte(0) & 0x0F) << 12 | (byte(1) & 0x3F) << 6 | (byte(2) & 0x3F);
    default:
      return (byte(0) & 0x07) << 18 | (byte(1) & 0x3F) << 12 | (byte(2) & 0x3F) << 6 |
             (byte(3) & 0x3F);
  }
}

void append_character(char32_t c, std::string& out) {
  const auto tail = [&](int shift) { return static_cast<char>(0x80 | ((c >> shift) & 0x3F)); };
  if (c < 0x80) {
    out += static_cast<char>(c);
  } else if (c < 0x800) {
    out += {static_cast<char>(0xC0 | c >> 6), tail(0)};
  } else if (c < 0x10000) {
    out += {static_cast<char>(0xE0 | c >> 12), tail(6), tail(0)};
  } else {
    out += {static_cast<char>(0xF0 | c >> 18), tail(12), tail(6), tail(0)};
  }
}

}  // namespace rev::data
