// The same tokens as transformers, tokenizers, sentencepiece and tiktoken give, on ten thousand
// lines: tokenizer_oracle.py makes lines, files and what is expected of them.
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "rev/data/open_tokenizer.h"
#include "support/temp_folder.h"

namespace rev::data {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

json read(const fs::path& path) { return json::parse(std::ifstream(path)); }

/// A text for a message, in ASCII.
std::string shown(const std::string& text) {
  return json(text).dump(-1, ' ', true, json::error_handler_t::replace);
}

void compare(const fs::path& folder, const std::vector<std::string>& texts) {
  const json expected = read(folder / "expected.json");
  const TokenizerPtr t = open_tokenizer(folder / expected["file"].get<std::string>());
  int n_wrong = 0;
  const auto check = [&](bool holds, const std::string& what, const std::string& text) {
    if (holds || ++n_wrong > 3) return;
    ADD_FAILURE() << folder.filename() << ": " << what << " of " << shown(text);
  };
  EncodeOptions options;
  options.parse_special = expected["parse"];
  const auto ids = expected["ids"].get<std::vector<TokenIds>>();
  ASSERT_GT(ids.size(), 1000u);
  for (std::size_t i = 0; i < ids.size(); ++i) {
    check(t->encode(texts[i], options) == ids[i], "tokens", texts[i]);
    // A U+2581 in the text becomes the space that it stands for.
    const bool lossless = expected["lossless"] && texts[i].find("\u2581") == std::string::npos;
    if (lossless) check(t->decode_bytes(ids[i]) == texts[i], "decoding", texts[i]);
  }
  options.add_special = true;
  const auto special = expected["special"].get<std::vector<TokenIds>>();
  for (std::size_t i = 0; i < special.size(); ++i) {
    check(t->encode(texts[i], options) == special[i], "tokens with special ones", texts[i]);
  }
  EXPECT_EQ(n_wrong, 0) << folder.filename();
}

TEST(TokenizerPythonTest, TenThousandLinesOfMixedUnicode) {
  const char* python = std::getenv("REV_TEST_PYTHON");
  if (python == nullptr || *python == 0) GTEST_SKIP() << "REV_TEST_PYTHON is not set";
  const char* data = std::getenv("REV_DATA_DIR");
  if (data == nullptr || !fs::exists(fs::path(data) / "tokenizers/qwen/qwen.tiktoken")) {
    GTEST_SKIP() << "REV_DATA_DIR has no tokenizers";
  }
  support::TempFolder folder;
  const char* smollm2 = std::getenv("REV_SMOLLM2");
  std::string command = std::string("'") + python + "' '" + std::getenv("REV_TESTS_DIR") +
                        "/data/tokenizer_oracle.py' '" + data + "' '" + folder.path().string() +
                        "'";
  if (smollm2 != nullptr && *smollm2 != 0) command += std::string(" '") + smollm2 + "'";
  ASSERT_EQ(std::system(command.c_str()), 0);
  const auto texts = read(folder / "texts.json").get<std::vector<std::string>>();
  ASSERT_EQ(texts.size(), 10'000u);
  int n_cases = 0;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder.path())) {
    if (!fs::exists(entry.path() / "expected.json")) continue;
    compare(entry.path(), texts);
    ++n_cases;
  }
  EXPECT_GT(n_cases, 30);
}

}  // namespace
}  // namespace rev::data
