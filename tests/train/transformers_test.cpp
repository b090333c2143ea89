// What is trained here is a GPT-2 to Hugging Face transformers: REV_TEST_PYTHON names a Python that
// has it.
#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>

#include "train/program.h"

namespace rev::train {
namespace {

using TransformersTest = RevGpt2Test;

TEST_F(TransformersTest, TheTrainedResidualModelHasTheSameLoss) {
  const char* python = std::getenv("REV_TEST_PYTHON");
  if (python == nullptr || *python == 0) GTEST_SKIP() << "REV_TEST_PYTHON is not set";
  constexpr int kSeq = 16, kWindows = 32;
  support::write_bytes(path("valid.txt"), text(kSeq * kWindows).substr(0, kSeq * kWindows) + "x");
  weights("run", tiny("run", {"--scheme", "residual", "--valid", path("valid.txt").string(),
                              "--batch", "8", "--eval-batches", "4", "--steps", "60"}));
  double here = 0;
  std::ifstream metrics(path("run") / "metrics.jsonl");
  for (std::string line; std::getline(metrics, line);) {
    here = nlohmann::json::parse(line).value("valid_loss", here);
  }
  EXPECT_LT(here, 4.0);  // it has learnt: ln 256 is 5.5

  const auto script =
      std::filesystem::path(std::getenv("REV_TESTS_DIR")) / "train/gpt2_loss_oracle.py";
  const std::string command = std::string("'") + python + "' '" + script.string() + "' '" +
                              path("run").string() + "' '" + path("valid.txt").string() + "' " +
                              std::to_string(kSeq) + " > '" + path("loss").string() + "'";
  ASSERT_EQ(std::system(command.c_str()), 0);
  // The agreement that is promised; both sum float32 losses of size 3.
  EXPECT_NEAR(std::stod(support::read_bytes(path("loss"))), here, 1e-4);
}

}  // namespace
}  // namespace rev::train
