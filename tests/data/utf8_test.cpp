#include "rev/data/utf8.h"

#include <gtest/gtest.h>
#include <string>

namespace rev::data {
namespace {

/// A character as UTF-8, by the definition, for values that are none as well.
std::string encode(unsigned value) {
  const auto byte = [](unsigned b) { return static_cast<char>(b); };
  const auto next = [&](int shift) { return byte(0x80 | ((value >> shift) & 0x3F)); };
  if (value < 0x80) return {byte(value)};
  if (value < 0x800) return {byte(0xC0 | value >> 6), next(0)};
  if (value < 0x10000) return {byte(0xE0 | value >> 12), next(6), next(0)};
  return {byte(0xF0 | value >> 18), next(12), next(6), next(0)};
}

TEST(Utf8Test, EveryCharacterIsTextButNulAndSurrogates) {
  for (unsigned value = 0; value < 0x140000; ++value) {
    const bool text = value != 0 && value < 0x110000 && (value < 0xD800 || value > 0xDFFF);
    const std::string bytes = encode(value);
    ASSERT_EQ(find_non_text(bytes) == bytes.size(), text) << std::hex << value;
  }
}

TEST(Utf8Test, FindsTheFirstWrongByteWhereverItLies) {
  const std::string plain(40, 'x');
  for (const char* wrong :
       {"\x80", "\xbf", "\xc0\x80", "\xc1\xbf", "\xe0\x9f\xbf", "\xed\xa0\x80", "\xf0\x8f\xbf\xbf",
        "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff", "\xc3x", "\xe2\x82x", "\xf0\x9f\x8cx"}) {
    for (std::size_t at = 0; at <= plain.size(); ++at) {
      EXPECT_EQ(find_non_text(plain.substr(0, at) + wrong + plain), at);
    }
  }
  for (std::size_t at = 0; at < plain.size(); ++at) {
    std::string with_nul = plain;
    with_nul[at] = '\0';
    EXPECT_EQ(find_non_text(with_nul), at);
  }
}

TEST(Utf8Test, ACharacterThatIsCutOffIsNoText) {
  for (const std::string whole : {"\xc3\xa4", "\xe2\x82\xac", "\xf0\x9f\x8c\xb3"}) {
    for (std::size_t n = 1; n < whole.size(); ++n) {
      EXPECT_EQ(find_non_text("some text" + whole.substr(0, n)), 9u);
    }
    EXPECT_EQ(find_non_text("some text" + whole), 9 + whole.size());
  }
  EXPECT_EQ(find_non_text(""), 0u);
}

}  // namespace
}  // namespace rev::data
