// rev-tokenize as a user runs it.
#include <gtest/gtest.h>
#include <string>

#include "support/temp_folder.h"
#include "train/program.h"

namespace rev::data {
namespace {

using train::operator+;

class RevTokenizeTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (train::find_program("rev-tokenize").empty()) GTEST_SKIP() << "rev-tokenize is not built";
    support::write_bytes(folder_ / "ranks.tiktoken", "YQ== 0\nYg== 1\nYWI= 2\nIA== 3\nCg== 4\n");
  }
  std::string run(const train::Arguments& arguments, int code = 0) {
    train::Program program(arguments, folder_ / "log", "rev-tokenize");
    EXPECT_EQ(program.wait(), code);
    return program.output();
  }
  /// The text as a file, and what is printed of it.
  std::string run_on(const std::string& text, const train::Arguments& more = {}) {
    support::write_bytes(folder_ / "text", text);
    const train::Arguments arguments = {"--tokenizer", (folder_ / "ranks.tiktoken").string(),
                                        "--words", "gpt2"};
    return run(arguments + more + train::Arguments{(folder_ / "text").string()});
  }
  support::TempFolder folder_;
};

TEST_F(RevTokenizeTest, PrintsTheTokensOfEachLine) {
  EXPECT_EQ(run_on("ab b\n\na"), "2 3 1\n\n0\n");
  EXPECT_EQ(run_on("ab\nb", {"--whole"}), "2 4 1\n");
  EXPECT_EQ(run_on("a<|endoftext|>"), "0 5\n");
  EXPECT_EQ(run_on("ab<|endoftext|>", {"--no-parse-special"}), "2\n");  // the rest has no tokens
  EXPECT_EQ(run_on(""), "");
}

TEST_F(RevTokenizeTest, ReadsThemBack) {
  EXPECT_EQ(run_on("2 3 1\n\n0\n", {"--decode"}), "ab b\n\na\n");
  EXPECT_EQ(run_on("2 4\n1", {"--decode", "--whole"}), "ab\nb");
}

TEST_F(RevTokenizeTest, KnowsBytes) {
  support::write_bytes(folder_ / "text", "\xff\n");
  EXPECT_EQ(run({"--tokenizer", "bytes", (folder_ / "text").string()}), "255\n");
}

TEST_F(RevTokenizeTest, RefusesWithOneSentence) {
  const std::string ranks = (folder_ / "ranks.tiktoken").string();
  EXPECT_EQ(run({}, 2), "rev-tokenize: --tokenizer FILE is needed: a tokenizer's file, or bytes\n");
  EXPECT_EQ(run({"--tokeniser", "x"}, 2),
            "rev-tokenize: unknown option --tokeniser; did you mean --tokenizer?\n");
  EXPECT_EQ(run({"--tokenizer", "/nowhere"}, 2),
            "rev-tokenize: /nowhere: no such file or folder\n");
  EXPECT_EQ(run({"--tokenizer", "bytes", "/nowhere"}, 2).rfind("rev-tokenize: /nowhere", 0), 0u);
  support::write_bytes(folder_ / "text", "1 2\n1 x\n");
  const std::string text = (folder_ / "text").string();
  EXPECT_NE(run({"--tokenizer", ranks, "--words", "gpt2", "--decode", text}, 2)
                .find("line 2: expected tokens"),
            std::string::npos);
  EXPECT_NE(run({"--help"}).find("--tokenizer FILE"), std::string::npos);
}

}  // namespace
}  // namespace rev::data
