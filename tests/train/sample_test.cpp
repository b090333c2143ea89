#include <nlohmann/json.hpp>
#include <torch/torch.h>

#include "rev/io/safetensors.h"
#include "train/program.h"

namespace rev::train {
namespace {

using SampleTest = RevGpt2Test;

TEST_F(SampleTest, PrintsThePromptAndBytesOfTheModelsOwn) {
  weights("run", tiny("run", {"--steps", "60"}));
  const Arguments sample = {"sample",   "--model", path("run").string(), "--prompt", "the ",
                            "--tokens", "20"};
  const Result first = run(sample);
  EXPECT_EQ(first.code, 0) << first.output;
  EXPECT_EQ(first.output.size(), 4u + 20u + 1u);
  EXPECT_EQ(first.output.substr(0, 4), "the ");
  EXPECT_EQ(run(sample).output, first.output);
  EXPECT_NE(run(sample + Arguments{"--seed", "1"}).output, first.output);
  EXPECT_EQ(run(sample + Arguments{"--temperature", "0"}).output,
            run(sample + Arguments{"--top-k", "1"}).output);
}

TEST_F(SampleTest, PrintsNumbersOfTokensThatAreNotBytes) {
  for (const int vocab : {256, 300}) {  // both might be those of bytes: what was read decides
    std::string shard;
    for (int i = 0; i < 4000; ++i) {
      shard += std::string{static_cast<char>(i % 7 + 1), vocab > 256 ? '\1' : '\0'};
    }
    support::write_bytes(path("shard.bin"), shard);
    const std::string out = "run" + std::to_string(vocab);
    weights(out,
            tiny(out, {"--data", path("shard.bin").string(), "--vocab", std::to_string(vocab)}));
    const Arguments sample = {"sample", "--model", path(out).string(), "--tokens", "4"};
    const Result result = run(sample + Arguments{"--prompt", "1 2"});
    EXPECT_EQ(result.code, 0) << result.output;
    EXPECT_EQ(std::count(result.output.begin(), result.output.end(), ' '), 3) << result.output;
    const Result refused = run(sample + Arguments{"--prompt", "the grid"});
    EXPECT_EQ(refused.code, 2);
    EXPECT_NE(refused.output.find("the model's tokens are not bytes"), std::string::npos);
  }
}

TEST_F(SampleTest, TextOfALargerVocabularyStaysText) {
  weights("run", tiny("run", {"--vocab", "320", "--steps", "1"}));
  // So hot that all 320 tokens are about as likely, the 64 beyond the bytes among them.
  const Result result = run({"sample", "--model", path("run").string(), "--prompt", "the ",
                             "--tokens", "200", "--temperature", "1000"});
  EXPECT_EQ(result.code, 0) << result.output;
  EXPECT_EQ(result.output.substr(0, 4), "the ");
  EXPECT_NE(result.output.find("\xEF\xBF\xBD"), std::string::npos);
}

TEST_F(SampleTest, AModelOfTransformersMayHaveAnyPrecisionAndMasks) {
  weights("run", tiny("run", {"--scheme", "residual", "--steps", "60"}));
  auto config = nlohmann::json::parse(support::read_bytes(path("run") / "config.json"));
  config.erase("rev");
  const std::string prefix = "transformer.";
  base::NamedTensors narrow = {{"h.0.attn.bias", torch::ones({1, 1, 16, 16}, torch::kByte)}};
  base::NamedTensors wide;
  for (const auto& [name, tensor] : io::load_safetensors(path("run") / "model.safetensors")) {
    ASSERT_EQ(name.rfind(prefix, 0), 0u);
    narrow.emplace_back(name.substr(prefix.size()), tensor.to(torch::kBFloat16));
    wide.emplace_back(narrow.back().first, narrow.back().second.to(torch::kFloat));
  }
  const auto sample = [&](const std::string& folder, const base::NamedTensors& tensors) {
    support::write_bytes(path(folder) / "config.json", config.dump());
    io::save_safetensors(path(folder) / "model.safetensors", tensors);
    const Result result = run({"sample", "--model", path(folder).string(), "--tokens", "20"});
    EXPECT_EQ(result.code, 0) << result.output;
    return result.output;
  };
  EXPECT_EQ(sample("narrow", narrow), sample("wide", wide));
}

TEST_F(SampleTest, Float64RunsAndSamples) {
  weights("run", tiny("run", {"--state", "float64"}));
  const Result result = run({"sample", "--model", path("run").string(), "--tokens", "3"});
  EXPECT_EQ(result.code, 0) << result.output;
}

}  // namespace
}  // namespace rev::train
