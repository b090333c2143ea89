#include "rev/train/fingerprint.h"

#include <gtest/gtest.h>
#include <string>

#include "rev/data/open_tokens.h"
#include "support/temp_folder.h"

namespace rev::train {
namespace {

std::string of(const std::string& text) {
  support::TempFolder folder;
  support::write_bytes(folder / "text.txt", text);
  return fingerprint(data::open_tokens({folder / "text.txt"}));
}

TEST(FingerprintTest, KnowsTextByLengthAndContent) {
  const std::string text = "some text\n";
  EXPECT_EQ(of(text), of(text));
  EXPECT_EQ(of(text).rfind("10 tokens, ", 0), 0u);
  EXPECT_NE(of("Some text\n"), of(text));
}

TEST(FingerprintTest, KnowsATokenizerByItsSizeAndDigest) {
  EXPECT_EQ(fingerprint(*data::byte_tokenizer()), "256 tokens, 0000000000000000");
}

TEST(FingerprintTest, ReachesBothEndsOfLongText) {
  std::string text(3 << 20, 'a');
  const std::string before = of(text);
  text.front() = 'b';
  const std::string first = of(text);
  text.front() = 'a';
  text.back() = 'b';
  EXPECT_NE(first, before);
  EXPECT_NE(of(text), before);
}

}  // namespace
}  // namespace rev::train
