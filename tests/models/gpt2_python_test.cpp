// The same GPT-2 by Hugging Face transformers, in both directions: REV_TEST_PYTHON names a Python
// that has it.
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <string>
#include <torch/torch.h>
#include <type_traits>

#include "rev/io/safetensors.h"
#include "rev/models/gpt2.h"
#include "support/temp_folder.h"

namespace rev::models {
namespace {

using at::Tensor;

// The agreement that is promised: logits of size 1 to 30 in float32, through three layers.
constexpr double kTolerance = 1e-4;

int run_oracle(const char* verb, const std::filesystem::path& folder) {
  const auto script = std::filesystem::path(std::getenv("REV_TESTS_DIR")) / "models/gpt2_oracle.py";
  const std::string command = std::string("'") + std::getenv("REV_TEST_PYTHON") + "' '" +
                              script.string() + "' " + verb + " '" + folder.string() + "'";
  return std::system(command.c_str());
}

base::NamedTensors in_order(const std::map<std::string, Tensor>& tensors) {
  return {tensors.begin(), tensors.end()};
}

HfKeys read_config(const std::filesystem::path& path) {
  HfKeys keys;
  const auto json = nlohmann::json::parse(std::ifstream(path));
  for (const auto& [name, value] : json.items()) {
    if (value.is_null()) keys[name] = std::monostate();
    if (value.is_boolean()) keys[name] = value.get<bool>();
    if (value.is_number_integer()) keys[name] = value.get<int64_t>();
    if (value.is_number_float()) keys[name] = value.get<double>();
    if (value.is_string()) keys[name] = value.get<std::string>();
  }
  return keys;
}

void write_config(const std::filesystem::path& path, const HfKeys& keys) {
  nlohmann::json json;
  for (const auto& [name, value] : keys) {
    std::visit(
        [&, key = name](const auto& v) {
          if constexpr (std::is_same_v<std::decay_t<decltype(v)>, std::monostate>) {
            json[key] = nullptr;
          } else {
            json[key] = v;
          }
        },
        value);
  }
  std::ofstream(path) << json;
}

void expect_same(Gpt2& model, const std::map<std::string, Tensor>& theirs) {
  const torch::NoGradGuard no_grad;
  model->eval();
  const Tensor& tokens = theirs.at("tokens");
  const Tensor logits = model->forward(tokens);
  EXPECT_GT(logits.abs().max().item<double>(), 1.0);
  EXPECT_TRUE(at::allclose(logits, theirs.at("logits"), 0, kTolerance));
  EXPECT_TRUE(at::allclose(model->next(tokens), theirs.at("logits").select(1, -1), 0, kTolerance));
  const int64_t n = tokens.size(1) - 1;  // transformers shifts the labels itself
  const Tensor loss = model->loss(tokens.narrow(1, 0, n), tokens.narrow(1, 1, n));
  EXPECT_NEAR(loss.item<double>(), theirs.at("loss").item<double>(), kTolerance);
}

TEST(Gpt2PythonTest, ModelsOfTransformersAreTheSameHereAndOursThere) {
  const char* python = std::getenv("REV_TEST_PYTHON");
  if (python == nullptr || *python == 0) GTEST_SKIP() << "REV_TEST_PYTHON is not set";
  support::TempFolder folder;
  ASSERT_EQ(run_oracle("make", folder.path()), 0);
  const auto expected = io::load_safetensors(folder / "expected.safetensors");

  Gpt2 theirs(Gpt2Config::from_hf(read_config(folder / "hf/config.json")));
  theirs->load_state_dict(in_order(io::load_safetensors(folder / "hf/model.safetensors")));
  expect_same(theirs, expected);

  torch::manual_seed(2);
  Gpt2 ours(theirs->config());
  {
    const torch::NoGradGuard no_grad;
    for (Tensor& p : ours->parameters()) p.add_(torch::randn_like(p), 0.2);
  }
  std::filesystem::create_directory(folder / "ours");
  io::save_safetensors(folder / "ours/model.safetensors", ours->state_dict(), {{"format", "pt"}});
  write_config(folder / "ours/config.json", hf_config(ours->config()));
  ASSERT_EQ(run_oracle("load", folder.path()), 0);
  expect_same(ours, io::load_safetensors(folder / "result.safetensors"));
}

}  // namespace
}  // namespace rev::models
