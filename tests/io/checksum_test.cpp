#include "rev/io/checksum.h"

#include <gtest/gtest.h>
#include <string>
#include <string_view>

namespace rev::io {
namespace {

std::uint64_t checksum_of(std::string_view text) { return checksum(text.data(), text.size()); }

// Expected numbers by the reference implementation, version 0.8.4.
TEST(ChecksumTest, IsXxh64) {
  EXPECT_EQ(checksum_of(""), 0xef46db3751d8e999);
  EXPECT_EQ(checksum_of("a"), 0xd24ec4f1a98c6e5b);
  EXPECT_EQ(checksum_of("abc"), 0x44bc2cf5ad770999);
  std::string all;
  for (int i = 0; i < 256; ++i) all += static_cast<char>(i);
  EXPECT_EQ(checksum_of(std::string_view(all).substr(0, 32)), 0xcbf59c5116ff32b4);
  EXPECT_EQ(checksum_of(std::string_view(all).substr(0, 47)), 0x0d9883a03e7bfbb8);
  EXPECT_EQ(checksum_of(all), 0x1facbe8406cd904b);
}

TEST(ChecksumTest, EverySingleBitCounts) {
  std::string text(77, '\x5a');
  const std::uint64_t sum = checksum_of(text);
  for (std::size_t bit = 0; bit < 8 * text.size(); ++bit) {
    text[bit / 8] ^= static_cast<char>(1 << bit % 8);
    EXPECT_NE(checksum_of(text), sum) << "bit " << bit;
    text[bit / 8] ^= static_cast<char>(1 << bit % 8);
  }
}

}  // namespace
}  // namespace rev::io
