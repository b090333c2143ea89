#include "rev/data/open_tokens.h"

#include <cstdlib>
#include <filesystem>
#include <gtest/gtest.h>
#include <string>
#include <vector>

#include "data/tokens.h"
#include "rev/data/open_tokenizer.h"
#include "support/temp_folder.h"
#include "support/throws.h"

namespace rev::data {
namespace {

namespace fs = std::filesystem;
using support::TempFolder;
using support::write_bytes;

std::string make_llmc_shard(const std::vector<std::uint16_t>& tokens, std::int32_t count,
                            std::int32_t version = 1, std::int32_t magic = 20240520) {
  std::vector<std::int32_t> header(256, 0);
  header[0] = magic;
  header[1] = version;
  header[2] = count;
  return as_bytes(header) + as_bytes(tokens);
}

TEST(OpenTokensTest, ATextIsItsBytes) {
  TempFolder folder;
  write_bytes(folder / "a.txt",
              "gr\xc3\xbc\xc3\x9f"
              "e");
  const TokenSource tokens = open_tokens({folder / "a.txt"});
  EXPECT_EQ(tokens.vocab(), 256);
  EXPECT_EQ(read_all(tokens), (std::vector<std::int64_t>{'g', 'r', 0xc3, 0xbc, 0xc3, 0x9f, 'e'}));
}

TEST(OpenTokensTest, TextsFollowEachOtherOnLinesOfTheirOwn) {
  TempFolder folder;
  write_bytes(folder / "a", "one");
  write_bytes(folder / "b", "two\n");
  EXPECT_EQ(read_text(open_tokens({folder / "a", folder / "b", folder / "a"})), "one\ntwo\none");
}

TEST(OpenTokensTest, LargeAndSmallTextsKeepTheirOrder) {
  TempFolder folder;
  const std::string large(3 << 20, 'x');
  write_bytes(folder / "small", "s");
  write_bytes(folder / "large", large);
  const std::string text = read_text(open_tokens(
      {folder / "small", folder / "large", folder / "small", folder / "large", folder / "large"}));
  EXPECT_TRUE(text == "s\n" + large + "\ns\n" + large + "\n" + large);
}

TEST(OpenTokensTest, FoldersAreReadInTheOrderOfTheirPaths) {
  TempFolder folder;
  write_bytes(folder / "d/b.txt", "3");
  write_bytes(folder / "d/a/z.txt", "1");
  write_bytes(folder / "d/a.txt", "2");  // '.' < '/', so before the folder's
  write_bytes(folder / "d/Z", "0");
  const TokenSource tokens = open_tokens({folder / "d"});
  EXPECT_EQ(read_text(tokens), "0\n2\n1\n3");
  EXPECT_EQ(tokens.skipped_files(), 0);
}

TEST(OpenTokensTest, FoldersSkipWhatIsNoTextAndCountIt) {
  TempFolder folder;
  write_bytes(folder / "d/text", "text");
  write_bytes(folder / "d/empty", "");
  write_bytes(folder / "d/.hidden", "hidden");
  write_bytes(folder / "d/.git/config", "hidden");
  write_bytes(folder / "d/latin1",
              "gr\xfc\xdf"
              "e");
  write_bytes(folder / "d/binary", std::string("a\0b", 3));
  write_bytes(folder / "d/shard.bin", "abcd");
  fs::create_symlink("nowhere", folder / "d/broken");
  const TokenSource tokens = open_tokens({folder / "d"});
  EXPECT_EQ(read_text(tokens), "text");
  EXPECT_EQ(tokens.skipped_files(), 3);
}

TEST(OpenTokensTest, AFolderWithoutTextIsRefused) {
  TempFolder folder;
  write_bytes(folder / "d/shard.bin", "abcd");
  EXPECT_THROW_WITH(open_tokens({folder / "d"}), "d: holds no UTF-8 text (1 other files");
}

TEST(OpenTokensTest, ANamedFileMustBeText) {
  TempFolder folder;
  write_bytes(folder / "a",
              "gr\xfc\xdf"
              "e");
  EXPECT_THROW_WITH(open_tokens({folder / "a"}), "a: not UTF-8 text: byte 252 at offset 2");
  write_bytes(folder / "a", std::string("ab\0d", 4));
  EXPECT_THROW_WITH(open_tokens({folder / "a"}), "a: not UTF-8 text: byte 0 at offset 2");
  write_bytes(folder / "a", "");
  EXPECT_THROW_WITH(open_tokens({folder / "a"}), "a: empty file");
  EXPECT_THROW_WITH(open_tokens({folder / "b"}), "b: no such file or folder");
  EXPECT_THROW_WITH(open_tokens({}), "expected at least one path");
}

TEST(OpenTokensTest, TextNeedsAVocabularyOfAllBytes) {
  TempFolder folder;
  write_bytes(folder / "a", "text");
  EXPECT_EQ(open_tokens({folder / "a"}, 300).vocab(), 300);
  EXPECT_TRUE(open_tokens({folder / "a"}, 300).is_text());
  EXPECT_THROW_WITH(open_tokens({folder / "a"}, 65),
                    "at least 256 for text, which is read as bytes, got 65");
}

TEST(OpenTokensTest, ReadsNanoGptShards) {
  TempFolder folder;
  write_bytes(folder / "a.bin", as_bytes<std::uint16_t>({1, 50256, 3}));
  write_bytes(folder / "b.bin", as_bytes<std::uint16_t>({4}));
  const TokenSource tokens = open_tokens({folder / "a.bin", folder / "b.bin"});
  EXPECT_EQ(tokens.vocab(), 50257);
  EXPECT_FALSE(tokens.is_text());
  EXPECT_EQ(read_all(tokens), (std::vector<std::int64_t>{1, 50256, 3, 4}));
}

TEST(OpenTokensTest, ReadsLlmcShardsWhateverTheirName) {
  TempFolder folder;
  write_bytes(folder / "a.bin", make_llmc_shard({1, 2, 3}, 3));
  write_bytes(folder / "b", make_llmc_shard({50256}, 1));
  EXPECT_EQ(read_all(open_tokens({folder / "a.bin", folder / "b"})),
            (std::vector<std::int64_t>{1, 2, 3, 50256}));
}

TEST(OpenTokensTest, NamesTheFirstTokenOutsideOfTheVocabulary) {
  TempFolder folder;
  write_bytes(folder / "a.bin", as_bytes<std::uint16_t>({1, 2, 50257, 60000}));
  EXPECT_THROW_WITH(open_tokens({folder / "a.bin"}),
                    "a.bin: token 50257 at byte offset 4 is outside of the vocabulary of 50257");
  EXPECT_EQ(open_tokens({folder / "a.bin"}, 65536).size(), 4);
  write_bytes(folder / "a.bin", make_llmc_shard({1, 2, 3}, 3));
  EXPECT_THROW_WITH(open_tokens({folder / "a.bin"}, 3),
                    "token 3 at byte offset 1028 is outside of the vocabulary of 3");
}

TEST(OpenTokensTest, RefusesOtherWidths) {
  TempFolder folder;
  write_bytes(folder / "a.bin", "abc");
  EXPECT_THROW_WITH(open_tokens({folder / "a.bin"}),
                    "16-bit tokens, got an odd number of bytes (3)");
  write_bytes(folder / "a.bin", as_bytes<std::uint32_t>({17, 4, 50000, 0}));
  EXPECT_THROW_WITH(open_tokens({folder / "a.bin"}), "a.bin: looks like 32-bit tokens");
  write_bytes(folder / "a.bin", make_llmc_shard({1, 0, 2, 0}, 2, 7, 20240801));
  EXPECT_THROW_WITH(open_tokens({folder / "a.bin"}), "32-bit tokens (magic number 20240801)");
  // Zeros alone say nothing of a width.
  write_bytes(folder / "a.bin", as_bytes<std::uint16_t>({0, 0, 0, 0}));
  EXPECT_EQ(open_tokens({folder / "a.bin"}).size(), 4);
}

TEST(OpenTokensTest, RefusesDamagedShards) {
  TempFolder folder;
  const std::string whole = make_llmc_shard({1, 2, 3}, 3);
  write_bytes(folder / "a", whole.substr(0, 1000));
  EXPECT_THROW_WITH(open_tokens({folder / "a"}),
                    "a: truncated: 1000 bytes, its header alone has 1024");
  write_bytes(folder / "a", whole.substr(0, whole.size() - 2));
  EXPECT_THROW_WITH(open_tokens({folder / "a"}),
                    "promises 3 tokens, that is 1030 bytes, the file has 1028");
  write_bytes(folder / "a", whole + "12");
  EXPECT_THROW_WITH(open_tokens({folder / "a"}), "the file has 1032");
  write_bytes(folder / "a", make_llmc_shard({1}, 1, 2));
  EXPECT_THROW_WITH(open_tokens({folder / "a"}), "a: expected version 1, got 2");
  write_bytes(folder / "a", make_llmc_shard({}, 0));
  EXPECT_THROW_WITH(open_tokens({folder / "a"}), "promises 0 tokens");
  write_bytes(folder / "a", make_llmc_shard({}, -5));
  EXPECT_THROW_WITH(open_tokens({folder / "a"}), "promises -5 tokens");
}

TEST(OpenTokensTest, TextsAndShardsDoNotMix) {
  TempFolder folder;
  write_bytes(folder / "a.bin", as_bytes<std::uint16_t>({1, 2}));
  write_bytes(folder / "b.txt", "text");
  EXPECT_THROW_WITH(open_tokens({folder / "a.bin", folder / "b.txt"}), "b.txt is text");
}

/// A tokenizer of a, b, ab and of what is wanted beyond, by ranks.
TokenizerPtr small_tokenizer(const TempFolder& folder, int n_more = 0) {
  std::string ranks = "YQ== 0\nYg== 1\nYWI= 2\n";
  for (int i = 3; i < 3 + n_more; ++i) {  // base64 of three bytes each
    const char* const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (const int digit : {51, i >> 12, i >> 6, i}) ranks += digits[digit & 63];
    ranks.append(" ").append(std::to_string(i)).append("\n");
  }
  write_bytes(folder / "ranks.tiktoken", ranks);
  return open_tokenizer(folder / "ranks.tiktoken", "gpt2");
}

TEST(OpenTokensTest, ATokenizersTextsAreItsTokens) {
  TempFolder folder;
  const TokenizerPtr tokenizer = small_tokenizer(folder);
  write_bytes(folder / "d/a", "ab<|endoftext|>");  // spelled out: letters without tokens
  write_bytes(folder / "d/b", "bab\n");
  write_bytes(folder / "d/c", "\xff");
  const TokenSource tokens = open_tokens({folder / "d", folder / "d/b"}, {}, tokenizer.get());
  EXPECT_EQ(read_all(tokens), (std::vector<std::int64_t>{2, 3, 1, 2, 3, 1, 2}));
  EXPECT_EQ(tokens.vocab(), 4);
  EXPECT_EQ(tokens.skipped_files(), 1);
  EXPECT_FALSE(tokens.is_text());
  EXPECT_EQ(open_tokens({folder / "d"}, 10, tokenizer.get()).vocab(), 10);
  EXPECT_THROW_WITH(open_tokens({folder / "d"}, 3, tokenizer.get()),
                    "a vocabulary of at least 4, that of the tokenizer, got 3");
  // Without an end of text a newline stands between.
  EXPECT_EQ(read_text(open_tokens({folder / "d/b", folder / "d/b"}, {}, byte_tokenizer().get())),
            "bab\n\nbab\n");
}

TEST(OpenTokensTest, LargeVocabulariesHaveTokensOf32Bits) {
  TempFolder folder;
  write_bytes(folder / "a", "ab");
  for (const int n_more : {65532, 65533}) {  // with the three and the end of text: 2^16, and one
    const TokenizerPtr tokenizer = small_tokenizer(folder, n_more);
    EXPECT_EQ(read_all(open_tokens({folder / "a", folder / "a"}, {}, tokenizer.get())),
              (std::vector<std::int64_t>{2, n_more + 3, 2}));
  }
}

TEST(OpenTokensTest, ShardsAreOfTheTokenizersVocabulary) {
  TempFolder folder;
  const TokenizerPtr tokenizer = small_tokenizer(folder);
  write_bytes(folder / "a.bin", as_bytes<std::uint16_t>({3, 1}));
  EXPECT_EQ(open_tokens({folder / "a.bin"}, {}, tokenizer.get()).vocab(), 4);
  write_bytes(folder / "a.bin", as_bytes<std::uint16_t>({4}));
  EXPECT_THROW_WITH(open_tokens({folder / "a.bin"}, {}, tokenizer.get()),
                    "is outside of the vocabulary of 4");
}

TEST(OpenTokensTest, RealTextIsItsBytes) {
  const char* data = std::getenv("REV_DATA_DIR");
  const fs::path text = fs::path(data == nullptr ? "" : data) / "corpora/tinyshakespeare.txt";
  if (!fs::exists(text)) GTEST_SKIP() << text << " is not there";
  EXPECT_TRUE(read_text(open_tokens({text})) == support::read_bytes(text));
}

}  // namespace
}  // namespace rev::data
