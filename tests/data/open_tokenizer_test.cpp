#include "rev/data/open_tokenizer.h"

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <string>

#include "data/gguf_file.h"
#include "rev/data/utf8.h"
#include "support/temp_folder.h"
#include "support/throws.h"

namespace rev::data {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using support::read_bytes;
using support::TempFolder;
using support::write_bytes;

/// A vocabulary of all bytes and "ab".
json make_vocab() {
  json vocab;
  int next = 256;
  for (int b = 0; b < 256; ++b) {
    const bool itself = (b > 32 && b < 127) || (b > 160 && b != 173);
    const int letter = itself ? b : next++;
    std::string piece;
    append_character(static_cast<char32_t>(letter), piece);
    vocab[piece] = b;
  }
  vocab["ab"] = 256;
  return vocab;
}

json make_tokenizer_json() {
  return {{"added_tokens", {{{"id", 257}, {"content", "<s>"}, {"special", true}}}},
          {"normalizer", {{"type", "NFC"}}},
          {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}}},
          {"post_processor", nullptr},
          {"decoder", {{"type", "ByteLevel"}}},
          {"model", {{"type", "BPE"}, {"vocab", make_vocab()}, {"merges", {"a b"}}}}};
}

/// A protobuf field of bytes.
std::string field(int number, const std::string& bytes) {
  return std::string(1, static_cast<char>(number << 3 | 2)) + static_cast<char>(bytes.size()) +
         bytes;
}

std::string make_sentencepiece() {
  const auto piece = [](const std::string& text, float score, int type) {
    std::string bits(4, '\0');
    std::memcpy(bits.data(), &score, 4);
    return field(1, field(1, text) + "\x15" + bits + "\x18" + static_cast<char>(type));
  };
  return piece("<unk>", 0, 2) + piece("<s>", 0, 3) + piece("</s>", 0, 3) +
         piece("\xE2\x96\x81", -1, 1) + piece("a", -2, 1) + piece("b", -3, 1) + piece("ab", -4, 1) +
         field(2, std::string("\x18\x02", 2));
}

TEST(OpenTokenizerTest, FindsOutWhatAFileIs) {
  TempFolder folder;
  write_bytes(folder / "json/tokenizer.json", make_tokenizer_json().dump());
  write_bytes(folder / "pair/vocab.json", make_vocab().dump());
  write_bytes(folder / "pair/merges.txt", "#version: 0.2\na b\n");
  write_bytes(folder / "openai/encoder.json", make_vocab().dump());
  write_bytes(folder / "openai/vocab.bpe", "a b\n");
  write_bytes(folder / "piece/tokenizer.model", make_sentencepiece());
  for (const char* path :
       {"json", "json/tokenizer.json", "pair", "pair/vocab.json", "pair/merges.txt", "openai",
        "openai/encoder.json", "openai/vocab.bpe"}) {
    EXPECT_EQ(open_tokenizer(folder / path)->encode("ab a"), (TokenIds{256, ' ', 'a'})) << path;
  }
  const TokenizerPtr piece = open_tokenizer(folder / "piece");
  EXPECT_EQ(piece->encode("ab"), (TokenIds{3, 6}));
  EXPECT_EQ(piece->encode("ab", {true}), (TokenIds{1, 3, 6}));
  EXPECT_EQ(piece->decode({1, 3, 6}, true), "ab");
  EXPECT_EQ(piece->bos(), 1);
  EXPECT_EQ(piece->eos(), 2);
}

TEST(OpenTokenizerTest, ReadsRanksOfBase64) {
  TempFolder folder;
  write_bytes(folder / "a.tiktoken", "YQ== 0\nYg== 1\nYWI= 2\n");
  EXPECT_THROW_WITH(open_tokenizer(folder / "a.tiktoken"), "3 tokens are those of no known model");
  const TokenizerPtr t = open_tokenizer(folder / "a.tiktoken", "gpt2");
  EXPECT_EQ(t->encode("abb<|endoftext|>"), (TokenIds{2, 1, 3}));
  EXPECT_EQ(open_tokenizer(folder.path(), "qwen2")->vocab(), 3 + 208);
  const auto expect_refused = [&](const std::string& bytes, const std::string& sentence) {
    write_bytes(folder / "a.tiktoken", bytes);
    EXPECT_THROW_WITH(open_tokenizer(folder / "a.tiktoken", "gpt2"), sentence);
  };
  expect_refused("YQ== 0\nYg== 2\n", "a.tiktoken: token 1 is missing below the last, 2");
  expect_refused("YQ== 0\nYg== 0\n", "a.tiktoken: token 0 is both \"a\" and \"b\"");
  expect_refused("YQ== 0\nY!== 1\n", "a.tiktoken: line 2: not base64: \"!\"");
  expect_refused("YQ== 0\nYg==\n", "a.tiktoken: line 2: expected base64, a space and a token");
  expect_refused("YQ== 0\nYg== 99999999999\n", "expected from 0 to 1048575");
}

TEST(OpenTokenizerTest, TheConfigBesideItNamesTokensAndTheTemplate) {
  TempFolder folder;
  write_bytes(folder / "tokenizer.json", make_tokenizer_json().dump());
  write_bytes(folder / "tokenizer_config.json",
              R"({"bos_token": {"content": "<s>"}, "eos_token": "ab", "chat_template": "x"})");
  const TokenizerPtr t = open_tokenizer(folder.path());
  EXPECT_EQ(t->bos(), 257);
  EXPECT_EQ(t->eos(), 256);
  EXPECT_EQ(t->chat_template(), "x");
}

TEST(OpenTokenizerTest, TheConfigBesideItAddsTokens) {
  TempFolder folder;
  write_bytes(folder / "pair/vocab.json", make_vocab().dump());
  write_bytes(folder / "pair/merges.txt", "a b\n");
  write_bytes(folder / "piece/tokenizer.model", make_sentencepiece());
  const auto config = [](int id) {
    const json end = {{"content", "<|end|>"}, {"special", true}};
    return json{{"added_tokens_decoder", {{std::to_string(id), end}}}, {"eos_token", "<|end|>"}};
  };
  write_bytes(folder / "pair/tokenizer_config.json", config(259).dump());
  const TokenizerPtr pair = open_tokenizer(folder / "pair");
  EXPECT_EQ(pair->encode("ab<|end|>a"), (TokenIds{256, 259, 'a'}));
  EXPECT_EQ(pair->eos(), 259);
  write_bytes(folder / "piece/tokenizer_config.json", config(7).dump());
  const TokenizerPtr piece = open_tokenizer(folder / "piece");
  EXPECT_EQ(piece->encode("ab<|end|>"), (TokenIds{3, 6, 7}));
  EXPECT_EQ(piece->eos(), 7);

  const auto expect_refused = [&](const json& given, const std::string& sentence) {
    write_bytes(folder / "pair/tokenizer_config.json", given.dump());
    EXPECT_THROW_WITH(open_tokenizer(folder / "pair"), sentence);
  };
  expect_refused({{"eos_token", "<|end|>"}}, "eos_token is \"<|end|>\", which is no token of");
  expect_refused({{"added_tokens_decoder", {{"x", json::object()}}}},
                 "the token \"x\" is not a whole number");
  expect_refused({{"added_tokens_decoder", {{"9", 1}}}}, "token 9: expected a JSON object");
}

TEST(OpenTokenizerTest, WhereNoFileSaysItGpt2sTokenEndsATextThatHasIt) {
  TempFolder folder;
  json file = make_tokenizer_json();
  write_bytes(folder / "tokenizer.json", file.dump());
  EXPECT_FALSE(open_tokenizer(folder.path())->eos());
  file["added_tokens"].push_back({{"id", 258}, {"content", "<|endoftext|>"}, {"special", true}});
  write_bytes(folder / "tokenizer.json", file.dump());
  EXPECT_EQ(open_tokenizer(folder.path())->eos(), 258);
}

TEST(OpenTokenizerTest, NamesWhatIsWrong) {
  TempFolder folder;
  EXPECT_THROW_WITH(open_tokenizer(folder / "none"), "none: no such file or folder");
  EXPECT_THROW_WITH(open_tokenizer(folder.path()), "holds no tokenizer");
  const auto expect_refused = [&](const std::string& name, const std::string& bytes,
                                  const std::string& sentence) {
    write_bytes(folder / name, bytes);
    EXPECT_THROW_WITH(open_tokenizer(folder / name), sentence);
  };
  expect_refused("a", "", "a: empty file");
  expect_refused("a", "some text\nof no kind", "neither vocab.json nor encoder.json is beside it");
  expect_refused("a", "text", "a: not a tokenizer");
  expect_refused("a", "{\"a\": 0", "a: not JSON at line 1, column 8");
  expect_refused("a", "{\"a\": 0}", "neither merges.txt nor vocab.bpe is beside it");
  expect_refused("a", "GGUF", "a: the header is truncated");
  expect_refused("a", "{\"a\": " + std::string(100, '['), "a: nested deeper than 64 levels");
  expect_refused("a", "\n\x05", "a: truncated, or not a SentencePiece model");

  const auto expect_json_refused = [&](const char* pointer, const json& value,
                                       const std::string& sentence) {
    json file = make_tokenizer_json();
    file[json::json_pointer(pointer)] = value;
    expect_refused("tokenizer.json", file.dump(), sentence);
  };
  expect_json_refused("/model/type", "WordPiece",
                      "the type \"WordPiece\" is not supported; there are BPE and Unigram");
  expect_json_refused("/normalizer/type", "BertNormalizer",
                      "the type \"BertNormalizer\" is not supported; there are NFC");
  expect_json_refused("/pre_tokenizer/type", "BertPreTokenizer",
                      "\"BertPreTokenizer\" is not supported; there are ByteLevel");
  expect_json_refused("/post_processor", {{"type", "X"}},
                      "the type \"X\" is not supported; there are ByteLevel, Templ");
  expect_json_refused("/decoder/type", "WordPiece",
                      "the type \"WordPiece\" is not supported; there are ByteLevel");
  expect_json_refused("/model/dropout", 0.1, "dropout of merges is not supported");
  expect_json_refused("/model/end_of_word_suffix", "</w>",
                      "end_of_word_suffix \"</w>\" is not supported");
  expect_json_refused("/model/unk_token", "<unk>", "unk_token \"<unk>\" is no piece");
  expect_json_refused("/model/merges", {"ab"}, "merge 0 is not a pair of pieces: \"ab\"");
  expect_json_refused("/model/merges", {"a c"}, "needs the piece \"ac\"");
  expect_json_refused("/model/merges", 3, "model: merges is not a list");
  expect_json_refused("/model/vocab/x", -1, "the token of \"x\" is not a whole number below");
  expect_json_refused("/model/vocab/xy", 5, "token 5 is both");
  expect_json_refused("/added_tokens/0/id", 1 << 30,
                      "the piece \"<s>\" is token 1073741824, expected from 0");
  expect_json_refused("/added_tokens/0/content", 1, "expected \"content\" to be a string, got 1");
  const json unigram = json::array({json::array({"a", 0.0}), json::array({"b", -1.0})});
  expect_json_refused("/model", {{"type", "Unigram"}, {"unk_id", 0}, {"vocab", unigram}},
                      "a unigram model over bytes is not supported");
  // What would take any stack or memory.
  json file = make_tokenizer_json();
  json steps(1000, {{"type", "Digits"}});
  file["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", steps}};
  file["decoder"] = nullptr;
  expect_refused("tokenizer.json", file.dump(),
                 "has 1000 steps one after the other, expected at most 64");
  steps.clear();
  for (int i = 0; i < 9; ++i) {
    steps.push_back({{"type", "Replace"}, {"pattern", {{"String", "a"}}}, {"content", "aa"}});
  }
  for (const char* key : {"normalizer", "decoder"}) {
    file = make_tokenizer_json();
    file[key] = {{"type", "Sequence"}, {std::string(key) + "s", steps}};
    expect_refused("tokenizer.json", file.dump(),
                   "its steps would make a text 512 times as long, expected at most 256");
  }
  expect_json_refused("/normalizer",
                      {{"type", "Replace"}, {"content", ""}, {"pattern", {{"Regex", "("}}}},
                      "normaliser: not a regular expression");
}

/// A file that is damaged either opens or is refused with a sentence.
void mutate(const std::string& bytes, const std::string& name, int n) {
  TempFolder folder;
  write_bytes(folder / "merges.txt", "a b\n");
  std::uint32_t state = 3;
  const auto draw = [&](std::size_t below) {
    state = state * 1664525u + 1013904223u;
    return static_cast<std::size_t>(state >> 8) % below;
  };
  for (int i = 0; i < n; ++i) {
    std::string damaged = bytes;
    if (i % 4 == 0) damaged.resize(draw(damaged.size()));
    for (std::size_t k = draw(3); k > 0 && !damaged.empty(); --k) {
      damaged[draw(damaged.size())] = static_cast<char>(draw(256));
    }
    write_bytes(folder / name, damaged);
    try {
      const TokenizerPtr t = open_tokenizer(folder / name, "gpt2");
      t->decode(t->encode("ab <s> \u00e9 123"));
    } catch (const c10::Error& error) {
      ASSERT_FALSE(std::string(error.what_without_backtrace()).empty());
    }
  }
}

TEST(OpenTokenizerTest, DamagedFilesEndInASentence) {
  json small = make_tokenizer_json();
  small["model"]["vocab"] = {{"a", 0}, {"b", 1}, {"ab", 2}};
  small["added_tokens"][0]["id"] = 3;
  mutate(small.dump(), "tokenizer.json", 500);
  mutate(make_sentencepiece(), "tokenizer.model", 1000);
  mutate(make_gguf(small_tokenizer()), "t.gguf", 1000);
  mutate("YQ== 0\nYg== 1\nYWI= 2\n", "a.tiktoken", 300);
  mutate(R"({"a": 0, "b": 1, "ab": 2})", "vocab.json", 300);
}

}  // namespace
}  // namespace rev::data
