// Training on text through a tokenizer, GPT-2's and a small one.
#include <nlohmann/json.hpp>

#include "train/program.h"

namespace rev::train {
namespace {

namespace fs = std::filesystem;

class TokenizerOptionTest : public RevGpt2Test {
 protected:
  void SetUp() override {
    RevGpt2Test::SetUp();
    if (IsSkipped()) return;
    support::write_bytes(path("small/vocab.json"), vocab());
    support::write_bytes(path("small/merges.txt"), "t h\nth e\n\u0120 the\n");
  }
  // Letters, a point, a space, a newline, three words, the end of text: 23 tokens.
  static std::string vocab() {
    nlohmann::json pieces;
    int n = 0;
    for (const char letter : std::string("abdefghikoprstvy.")) pieces[std::string(1, letter)] = n++;
    for (const char* piece : {"\u0120", "\u010a", "th", "the", "\u0120the", "<|endoftext|>"}) {
      pieces[piece] = n++;
    }
    return pieces.dump();
  }
  Arguments small_run(const std::string& out, const Arguments& more = {}) const {
    return tiny(out, take_last({"--tokenizer", path("small").string()}, more));
  }
  nlohmann::json settings(const std::string& out) const {
    return nlohmann::json::parse(support::read_bytes(path(out) / "config.json"));
  }
  void expect_refused(const Arguments& arguments, const std::string& sentence) const {
    const Result result = run(arguments);
    EXPECT_EQ(result.code, 2) << result.output;
    EXPECT_NE(result.output.find(sentence), std::string::npos) << result.output;
    EXPECT_EQ(std::count(result.output.begin(), result.output.end(), '\n'), 1) << result.output;
  }
};

TEST_F(TokenizerOptionTest, ResumesToTheSameBitsAndSamplesText) {
  const std::string whole = weights("whole", small_run("whole", {"--steps", "40"}));
  EXPECT_EQ(settings("whole")["vocab_size"], 23);
  EXPECT_EQ(settings("whole")["rev"]["tokenizer"], path("small").string());

  Program cut(small_run("cut", {"--steps", "40", "--save-every", "2"}), path("log"));
  ASSERT_TRUE(cut.wait_for(path("cut") / "checkpoints/step-4/manifest.json")) << cut.output();
  cut.send(SIGKILL);
  cut.wait();
  fs::rename(path("small"), path("moved"));
  const Arguments resume = {"train", "--out", path("cut").string(), "--resume"};
  expect_refused(resume, path("small").string() + ": no such file or folder");
  EXPECT_TRUE(weights("cut", resume + Arguments{"--tokenizer", path("moved").string()}) == whole);

  const Arguments sample = {"sample", "--model", path("whole").string(), "--tokens", "30"};
  expect_refused(sample, path("small").string() + ": no such file or folder");
  const Arguments moved = sample + Arguments{"--tokenizer", path("moved").string()};
  const Result text = run(moved + Arguments{"--prompt", "the grid"});
  EXPECT_EQ(text.code, 0) << text.output;
  EXPECT_EQ(text.output.substr(0, 8), "the grid");
  EXPECT_EQ(run(moved + Arguments{"--prompt", "the grid"}).output, text.output);
  // Without a prompt: what follows the end of a text.
  const std::string end = run(moved + Arguments{"--prompt", "<|endoftext|>"}).output;
  EXPECT_EQ(end, "<|endoftext|>" + run(moved).output);
}

TEST_F(TokenizerOptionTest, AChangedTokenizerIsRefused) {
  weights("run", small_run("run"));
  support::write_bytes(path("small/merges.txt"), "h e\nt he\n\u0120 the\n");
  std::string changed = vocab();
  changed.replace(changed.find("\"th\""), 4, "\"he\"");
  support::write_bytes(path("small/vocab.json"), changed);
  expect_refused({"train", "--out", path("run").string(), "--resume"},
                 "saved by a run with other settings: tokenizer-data was 23 tokens, ");
  expect_refused({"sample", "--model", path("run").string()},
                 path("small").string() +
                     ": not the tokenizer that the model was trained with: expected 23 tokens, ");
}

TEST_F(TokenizerOptionTest, TheChecksOfTextHold) {
  const auto expect_train_refused = [&](const Arguments& options, const std::string& sentence) {
    expect_refused(small_run("out", options), sentence);
    EXPECT_FALSE(fs::exists(path("out")));
  };
  support::write_bytes(path("empty.txt"), "");
  support::write_bytes(path("short.txt"), "the state");
  support::write_bytes(path("unknown.txt"), "XYZ\tXYZ");
  support::write_bytes(path("binary.txt"), "\xff\xfe");
  expect_train_refused({"--data", path("empty.txt").string()}, "empty.txt: empty file");
  expect_train_refused({"--data", path("short.txt").string()}, "7 tokens are too few to give 0.1");
  expect_train_refused({"--data", path("unknown.txt").string()}, "0 tokens are too few");
  expect_train_refused({"--data", path("binary.txt").string()}, "binary.txt: not UTF-8 text");
  expect_train_refused({"--valid", path("short.txt").string()},
                       "the validation data have 7 tokens; a sequence of --seq 16 needs");
  expect_train_refused({"--vocab", "22"},
                       "expected a vocabulary of at least 23, that of the tokenizer, got 22");
  expect_train_refused({"--tokenizer", ""}, "--tokenizer: expected a path, got nothing");
  expect_train_refused({"--tokenizer", path("none").string()}, "none: no such file or folder");
  expect_train_refused({"--tokenizer", path("short.txt").string()},
                       "holds merges, but neither vocab.json nor encoder.json is beside it");
  weights("bytes", tiny("bytes"));
  expect_refused(
      {"sample", "--model", path("bytes").string(), "--tokenizer", path("small").string()},
      "not the tokenizer that the model was trained with: expected none, got 23 tokens");
}

TEST_F(TokenizerOptionTest, TokensBeyondTheTokenizersArePrintedAsUnknown) {
  weights("run", small_run("run", {"--vocab", "300", "--steps", "1"}));
  const Result result = run({"sample", "--model", path("run").string(), "--prompt", "the",
                             "--tokens", "50", "--temperature", "1000"});
  EXPECT_EQ(result.code, 0) << result.output;
  EXPECT_EQ(result.output.substr(0, 3), "the");
  EXPECT_NE(result.output.find("\xEF\xBF\xBD"), std::string::npos);
}

TEST_F(TokenizerOptionTest, Gpt2sOwnFromAFileOfRanks) {
  const char* data = std::getenv("REV_DATA_DIR");
  const fs::path file = fs::path(data == nullptr ? "" : data) / "tokenizers/gpt2/gpt2.tiktoken";
  if (!fs::exists(file)) GTEST_SKIP() << file << " is not there";
  weights("run", tiny("run", {"--tokenizer", file.string()}));
  EXPECT_EQ(settings("run")["vocab_size"], 50257);
  const Result result = run({"sample", "--model", path("run").string(), "--prompt",
                             "Gr\u00fc\u00dfe, grid", "--tokens", "5"});
  EXPECT_EQ(result.code, 0) << result.output;
  EXPECT_EQ(result.output.rfind("Gr\u00fc\u00dfe, grid", 0), 0u) << result.output;
}

}  // namespace
}  // namespace rev::train
