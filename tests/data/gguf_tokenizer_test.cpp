// The tokenizers in GGUF files.
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <gtest/gtest.h>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "data/gguf_file.h"
#include "rev/data/chat_template.h"
#include "rev/data/open_tokenizer.h"
#include "support/temp_folder.h"
#include "support/throws.h"

namespace rev::data {
namespace {

namespace fs = std::filesystem;
using support::read_bytes;

fs::path data_file(const std::string& name) {
  const char* data = std::getenv("REV_DATA_DIR");
  return fs::path(data == nullptr ? "" : data) / "tokenizers" / name;
}

std::vector<std::string> read_vectors(const fs::path& path) {
  const std::string text = read_bytes(path), mark = "\n__ggml_vocab_test__\n";
  std::vector<std::string> texts;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = text.find(mark, at);
    texts.push_back(text.substr(at, end == std::string::npos ? end : end - at));
    if (end == std::string::npos) break;
    at = end + mark.size();
  }
  return texts;
}

TEST(GgufTokenizerTest, Gpt2GivesTheTokensOfLlamaCpp) {
  const fs::path path = data_file("llama.cpp/ggml-vocab-gpt-2.gguf");
  if (!fs::exists(path)) GTEST_SKIP() << path << " is not there";
  const TokenizerPtr t = open_tokenizer(path);
  const std::vector<std::string> texts = read_vectors(path.string() + ".inp");
  std::istringstream lines(read_bytes(path.string() + ".out"));
  std::size_t n = 0;
  for (std::string line; n < texts.size() && std::getline(lines, line); ++n) {
    std::istringstream ids(line);
    TokenIds expected;
    for (std::int64_t id; ids >> id;) expected.push_back(id);
    EXPECT_EQ(t->encode(texts[n]), expected) << texts[n];
    EXPECT_EQ(t->decode_bytes(expected), texts[n]);
  }
  EXPECT_EQ(n, texts.size());
  EXPECT_GT(n, 40u);
  EXPECT_EQ(t->encode("<|endoftext|>"), (TokenIds{50256}));
}

// For this model there are texts but no tokens: another file of the same vocabulary tells.
TEST(GgufTokenizerTest, LlamaGivesTheTokensOfItsSentencePieceModel) {
  const fs::path path = data_file("llama.cpp/ggml-vocab-llama-spm.gguf");
  const fs::path model = data_file("llama/tokenizer.model");
  if (!fs::exists(path) || !fs::exists(model)) GTEST_SKIP() << path << " is not there";
  const TokenizerPtr t = open_tokenizer(path);
  const TokenizerPtr other = open_tokenizer(model);
  for (const std::string& text : read_vectors(path.string() + ".inp")) {
    const TokenIds ids = t->encode(text, {true});
    EXPECT_EQ(ids, other->encode(text, {true})) << text;
    EXPECT_EQ(t->decode(ids, true), text);
  }
  EXPECT_EQ(t->encode("Hello world", {true}), (TokenIds{1, 15043, 3186}));
}

// Its tokens are compared with transformers' in tokenizer_python_test.cpp.
TEST(GgufTokenizerTest, SmolLM2KnowsItsTokensAndTemplate) {
  const char* path = std::getenv("REV_SMOLLM2");
  if (path == nullptr || !fs::exists(path)) GTEST_SKIP() << "REV_SMOLLM2 is not there";
  const TokenizerPtr t = open_tokenizer(path);
  EXPECT_EQ(t->vocab(), 49152);
  EXPECT_EQ(t->bos(), t->find("<|im_start|>"));
  EXPECT_EQ(t->eos(), t->find("<|im_end|>"));
  EXPECT_EQ(ChatTemplate::recognise(t->chat_template()).name(), "smollm2");
  EXPECT_EQ(t->encode("Hello", {true}), t->encode("Hello"));  // its file says: no bos
}

class GgufTokenizerFileTest : public ::testing::Test {
 protected:
  TokenizerPtr open() const {
    support::write_bytes(folder_ / "t.gguf", make_gguf(keys_));
    return open_tokenizer(folder_ / "t.gguf");
  }
  /// One key is other bytes, or none.
  void expect_refused(const std::string& name, const std::string& value,
                      const std::string& sentence) {
    const GgufKeys whole = keys_;
    keys_[name] = value;
    if (value.empty()) keys_.erase(name);
    EXPECT_THROW_WITH(open(), "t.gguf: " + sentence);
    keys_ = whole;
  }
  support::TempFolder folder_;
  GgufKeys keys_ = small_tokenizer();
};

TEST_F(GgufTokenizerFileTest, TypesSayWhatIsSpecial) {
  keys_["bos_token_id"] = io::u32(io::kUInt32) + io::u32(3);
  TokenizerPtr t = open();
  EXPECT_EQ(t->encode("ab<s>new", {true, true}), (TokenIds{2, 3, 4}));  // GPT-2 adds none
  EXPECT_TRUE(t->is_special(3));
  EXPECT_FALSE(t->is_special(4));
  keys_["add_bos_token"] = io::u32(io::kBool) + "\1";
  EXPECT_EQ(open()->encode("b", {true}), (TokenIds{3, 1}));
}

TEST_F(GgufTokenizerFileTest, ScoresJoinWhereTheModelIsSentencePieces) {
  keys_["model"] = gguf_text("llama");
  keys_["tokens"] = gguf_texts({"<unk>", "\u2581", "a", "b", "ab"});
  keys_["token_type"] = gguf_numbers({2, 1, 1, 1, 1});
  keys_["scores"] = gguf_numbers({0, 0, -1, -1, -2});  // whole numbers are numbers
  EXPECT_EQ(open()->encode("ab"), (TokenIds{1, 4}));
  keys_["add_space_prefix"] = io::u32(io::kBool) + std::string(1, '\0');
  EXPECT_EQ(open()->encode("ab"), (TokenIds{4}));
  keys_["model"] = gguf_text("t5");
  EXPECT_EQ(open()->encode("aab"), (TokenIds{2, 4}));
  keys_["precompiled_charsmap"] = gguf_numbers({1, 2, 3});
  EXPECT_THROW_WITH(open(), "normaliser: truncated: 3 bytes hold no compiled map of characters");
}

TEST_F(GgufTokenizerFileTest, NamesWhatIsWrong) {
  expect_refused("model", gguf_text("bert"),
                 "the tokenizer model \"bert\" (tokenizer.ggml.model) is not supported; there are");
  expect_refused("model", "", "has no metadata \"tokenizer.ggml.model\", expected string");
  expect_refused("pre", gguf_text("tekken"),
                 "splits text into words as \"tekken\" does (tokenizer.ggml.pre), which is not "
                 "supported; there are gpt-2");
  expect_refused("pre", "", "has no metadata \"tokenizer.ggml.pre\"");
  expect_refused("merges", "", "has no metadata \"tokenizer.ggml.merges\"");
  expect_refused("merges", gguf_texts({}), "has no merges");
  expect_refused("merges", gguf_texts({"ab"}), "merge 0 is not a pair of pieces: \"ab\"");
  expect_refused("tokens", gguf_texts({}), "there are 0 tokens but 5 types");
  expect_refused("tokens", gguf_numbers({1}), "metadata \"tokenizer.ggml.tokens\" has the type");
  expect_refused("token_type", gguf_numbers({1}), "there are 5 tokens but 1 types");
  expect_refused("token_type", gguf_numbers({1, 1, 1, 9, 1}), "token 3 has the unknown type 9");
  expect_refused("model", gguf_text("llama"), "has no metadata \"tokenizer.ggml.scores\"");
  expect_refused("eos_token_id", io::u32(io::kUInt32) + io::u32(5),
                 "the end of a text is token 5, there are 5");
}

}  // namespace
}  // namespace rev::data
