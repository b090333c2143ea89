#include "data/byte_alphabet.h"

#include <array>

#include "rev/data/utf8.h"

namespace rev::data {
namespace {

constexpr int kLetters = 0x144;  // one past the largest

struct Alphabet {
  std::array<char32_t, 256> letter{};
  std::array<int, kLetters> byte{};

  Alphabet() {
    byte.fill(-1);
    char32_t next = 0x100;
    for (int b = 0; b < 256; ++b) {
      const bool itself = (b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
      const char32_t c = itself ? static_cast<char32_t>(b) : next++;
      letter[static_cast<std::size_t>(b)] = c;
      byte[c] = b;
    }
  }
};

const Alphabet& alphabet() {
  static const Alphabet kAlphabet;
  return kAlphabet;
}

}  // namespace

std::string to_letters(std::string_view bytes) {
  std::string out;
  for (const char c : bytes)
    append_character(alphabet().letter[static_cast<unsigned char>(c)], out);
  return out;
}

std::optional<std::string> from_letters(std::string_view letters) {
  if (find_non_utf8(letters) < letters.size()) return std::nullopt;
  std::string out;
  while (!letters.empty()) {
    const char32_t c = read_character(letters);
    if (c >= kLetters || alphabet().byte[c] < 0) return std::nullopt;
    out += static_cast<char>(alphabet().byte[c]);
    letters.remove_prefix(character_bytes(letters[0]));
  }
  return out;
}

}  // namespace rev::data
