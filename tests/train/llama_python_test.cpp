// The same Llama by Hugging Face transformers, in both directions: REV_TEST_PYTHON names a Python
// that has it.
#include <cstdlib>
#include <filesystem>
#include <gtest/gtest.h>
#include <string>
#include <torch/torch.h>

#include "rev/io/safetensors.h"
#include "rev/models/generate.h"
#include "rev/models/llama.h"
#include "rev/train/model_files.h"
#include "support/temp_folder.h"

namespace rev::train {
namespace {

using at::Tensor;
using models::CausalLm;
namespace fs = std::filesystem;

// The agreement that is promised: of logits of size 1 to 40 in float32, and of gradients by norm.
constexpr double kTolerance = 1e-4, kGradientTolerance = 1e-3;

class LlamaPythonTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const char* python = std::getenv("REV_TEST_PYTHON");
    if (python == nullptr || *python == 0) GTEST_SKIP() << "REV_TEST_PYTHON is not set";
  }

  void run_oracle(const std::string& verb, const std::vector<fs::path>& paths) {
    const fs::path script = fs::path(std::getenv("REV_TESTS_DIR")) / "train/llama_oracle.py";
    std::string command =
        "'" + std::string(std::getenv("REV_TEST_PYTHON")) + "' '" + script.string() + "' " + verb;
    for (const fs::path& path : paths) command += " '" + path.string() + "'";
    ASSERT_EQ(std::system(command.c_str()), 0);
  }

  support::TempFolder folder_;
};

void expect_same(CausalLm& model, const fs::path& file) {
  const auto theirs = io::load_safetensors(file);
  const Tensor& tokens = theirs.at("tokens");
  model.eval();
  {
    const torch::NoGradGuard no_grad;
    const Tensor logits = model.forward(tokens);
    EXPECT_GT(logits.abs().max().item<double>(), 1.0);
    EXPECT_LT((logits - theirs.at("logits")).abs().max().item<double>(), kTolerance);
  }
  const int64_t n = tokens.size(1) - 1;  // transformers shifts the labels itself
  const Tensor loss = model.loss(tokens.narrow(1, 0, n), tokens.narrow(1, 1, n));
  EXPECT_NEAR(loss.item<double>(), theirs.at("loss").item<double>(), kTolerance);
  loss.backward();
  size_t n_gradients = 0;
  for (const auto& [name, tensor] : model.state_dict()) {
    const auto theirs_of = theirs.find("grad." + name);
    if (theirs_of == theirs.end()) continue;
    ++n_gradients;
    const double error = (tensor.grad() - theirs_of->second).norm().item<double>();
    EXPECT_LT(error, kGradientTolerance * theirs_of->second.norm().item<double>()) << name;
  }
  EXPECT_GE(n_gradients, 19u);
}

// 200 tokens after the prompt, with keys and values kept.
void expect_same_text(CausalLm& model, const fs::path& file) {
  const auto theirs = io::load_safetensors(file);
  const auto vector = [&](const char* name) {
    const Tensor& t = theirs.at(name);
    return std::vector<int64_t>(t.data_ptr<int64_t>(), t.data_ptr<int64_t>() + t.numel());
  };
  models::SamplingOptions options;
  options.n_tokens = 200;
  options.temperature = 0;
  EXPECT_EQ(models::generate(model, vector("prompt"), options), vector("greedy"));
}

TEST_F(LlamaPythonTest, ModelsOfTransformersAreTheSameHere) {
  ASSERT_NO_FATAL_FAILURE(run_oracle("random", {folder_.path()}));
  for (const std::string name : {"tied", "biases", "llama3", "linear", "wide_heads"}) {
    SCOPED_TRACE(name);
    expect_same(*open_model(folder_ / name), folder_ / (name + ".safetensors"));
  }
  EXPECT_EQ(sampling_options(folder_ / "wide_heads").stop, (std::vector<int64_t>{3, 4}));
}

TEST_F(LlamaPythonTest, OursAreTheSameThere) {
  torch::manual_seed(3);
  for (const char* scaling : {"default", "linear", "llama3"}) {
    SCOPED_TRACE(scaling);
    models::LlamaConfig config;
    config.scheme = "residual";
    config.layers = 2;
    config.heads = 4;
    config.kv_heads = 2;
    config.channels = 24;
    config.hidden = 40;
    config.seq = 32;
    config.vocab = 50;
    config.rotary.width = 10;
    config.rotary.scaling = scaling;
    config.rotary.factor = 4;
    config.rotary.original_seq = 16;
    config.attention_bias = true;
    config.eos = {4, 5};
    models::Llama model(config);
    {
      const torch::NoGradGuard no_grad;
      for (Tensor& p : model->parameters()) p.add_(torch::randn_like(p), 0.2);
    }
    const support::TempFolder folder;
    save_model(*model, folder / "ours");
    ASSERT_NO_FATAL_FAILURE(run_oracle("load", {folder.path()}));
    expect_same(*model, folder / "result.safetensors");
  }
}

TEST_F(LlamaPythonTest, Stories260KIsTheSame) {
  const char* data = std::getenv("REV_DATA_DIR");
  const fs::path file = fs::path(data ? data : "") / "weights/stories260K/stories260K.bin";
  if (!fs::exists(file)) GTEST_SKIP() << file << " is absent";
  ASSERT_NO_FATAL_FAILURE(run_oracle("stories", {file, folder_.path()}));
  const auto model = open_model(folder_ / "stories260K");
  expect_same(*model, folder_ / "stories260K.safetensors");
  expect_same_text(*model, folder_ / "stories260K.safetensors");
}

TEST_F(LlamaPythonTest, SmolLM2InAGgufFileIsTheSame) {
  const char* file = std::getenv("REV_SMOLLM2");
  if (file == nullptr || *file == 0) GTEST_SKIP() << "REV_SMOLLM2 is not set";
  ASSERT_NO_FATAL_FAILURE(run_oracle("gguf", {file, folder_.path()}));
  const auto model = open_model(file);
  EXPECT_EQ(model->seq(), 8192);
  EXPECT_EQ(sampling_options(file).stop, std::vector<int64_t>{2});
  expect_same(*model, folder_ / "gguf.safetensors");
  expect_same_text(*model, folder_ / "gguf.safetensors");
}

}  // namespace
}  // namespace rev::train
