#include "rev/train/model_files.h"

#include <cstdlib>
#include <fstream>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>
#include <string>
#include <torch/torch.h>

#include "io/gguf_bytes.h"
#include "rev/io/safetensors.h"
#include "rev/models/gpt2.h"
#include "rev/models/llama.h"
#include "rev/train/config_file.h"
#include "support/temp_folder.h"
#include "support/throws.h"

namespace rev::train {
namespace {

using at::Tensor;
using models::CausalLm;
namespace fs = std::filesystem;

models::LlamaConfig small_llama(const std::string& scheme) {
  models::LlamaConfig config;
  config.layers = 2;
  config.heads = 4;
  config.kv_heads = 2;
  config.channels = 16;
  config.hidden = 24;
  config.seq = 20;
  config.vocab = 31;
  config.rotary.width = 4;
  config.attention_bias = true;
  config.eos = {2, 5};
  config.scheme = scheme;
  return config;
}

models::Gpt2Config small_gpt2(const std::string& scheme) {
  models::Gpt2Config config;
  config.layers = 2;
  config.heads = 2;
  config.channels = 16;
  config.seq = 20;
  config.vocab = 31;
  config.scheme = scheme;
  return config;
}

Tensor logits(CausalLm& model) {
  const torch::NoGradGuard no_grad;
  model.eval();
  return model.forward(torch::arange(20).unsqueeze(0));
}

void expect_comes_back(CausalLm& model, const fs::path& folder) {
  save_model(model, folder);
  const auto back = open_model(folder);
  EXPECT_EQ(back->coupling().scheme, model.coupling().scheme);
  EXPECT_EQ(back->coupling().h, model.coupling().h);
  EXPECT_EQ(back->coupling().a, model.coupling().a);
  EXPECT_EQ(back->coupling().memory, model.coupling().memory);
  EXPECT_EQ(back->state_dict().size(), model.state_dict().size());
  EXPECT_TRUE(at::equal(logits(*back), logits(model)));
}

TEST(ModelFilesTest, EveryModelComesBackAsItWasSaved) {
  support::TempFolder folder;
  torch::manual_seed(81);
  for (const std::string& scheme : models::scheme_names()) {
    auto gpt2 = small_gpt2(scheme);
    gpt2.a_seed = 3;
    expect_comes_back(*models::Gpt2(gpt2), folder / ("gpt2-" + scheme));
    if (scheme == "revffn") continue;
    auto llama = small_llama(scheme);
    if (scheme == "midpoint-a") llama.a = {1, -0.125};
    llama.h = 0.3;
    llama.state = schemes::StateOptions{scheme == "residual" ? at::kFloat : at::kInt, 14};
    if (scheme == "retrofit") llama.a = {0.25, -0.25}, llama.inner = 2;
    if (scheme == "leapfrog") llama.memory = engine::Memory::Checkpoint;
    if (scheme == "residual") llama.h = models::Coupling().h;
    expect_comes_back(*models::Llama(llama), folder / ("llama-" + scheme));
  }
}

TEST(ModelFilesTest, OpensInAnotherCouplingThanTheModelsOwn) {
  support::TempFolder folder;
  save_model(*models::Llama(small_llama("residual")), folder / "m");
  models::Coupling coupling;
  coupling.scheme = "hamiltonian";
  EXPECT_EQ(open_model(folder / "m", coupling)->stack().scheme().name(), "hamiltonian");
  coupling.scheme = "revffn";
  EXPECT_THROW_WITH(open_model(folder / "m", coupling), "config.json: llama: revffn splits");
}

TEST(ModelFilesTest, SavesToANewFolderWholeOrNotAtAll) {
  support::TempFolder folder;
  const models::Llama model(small_llama("midpoint"));
  fs::create_directory(folder / "empty");
  save_model(*model, folder / "empty/");
  EXPECT_TRUE(fs::exists(folder / "empty/config.json"));
  EXPECT_FALSE(fs::exists(folder / "empty.tmp"));
  EXPECT_THROW_WITH(save_model(*model, folder / "empty"), "empty: is there already");
  support::write_bytes(folder / "file", "x");
  EXPECT_THROW_WITH(save_model(*model, folder / "file"), "file: is there already");
  EXPECT_THROW_WITH(save_model(*model, folder / "file/in"), "file");
}

// ---- files that are not as they should be

void edit(const fs::path& folder, const std::function<void(nlohmann::json&)>& change) {
  auto json = nlohmann::json::parse(std::ifstream(folder / "config.json"));
  change(json);
  std::ofstream(folder / "config.json") << json;
}

class BadModelTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const models::Llama model(small_llama("residual"));
    save_model(*model, model_);
    const models::Llama coupled(small_llama("midpoint"));
    save_model(*coupled, coupled_);
  }

  support::TempFolder folder_;
  fs::path model_ = folder_ / "model", coupled_ = folder_ / "coupled";
};

TEST_F(BadModelTest, NamesAPathThatIsNoModel) {
  EXPECT_THROW_WITH(open_model(folder_ / "none"), "none");
  fs::create_directory(folder_ / "empty");
  EXPECT_THROW_WITH(open_model(folder_ / "empty"), "empty/config.json");
  support::write_bytes(folder_ / "text", "once upon a time, and a time again");
  EXPECT_THROW_WITH(open_model(folder_ / "text"), "text");
}

TEST_F(BadModelTest, NamesAModelTypeThatIsNotSupported) {
  edit(model_, [](auto& json) { json["model_type"] = "qwen2"; });
  EXPECT_THROW_WITH(open_model(model_),
                    "model/config.json: model_type is \"qwen2\", expected gpt2 or llama");
  edit(model_, [](auto& json) { json.erase("model_type"); });
  EXPECT_THROW_WITH(open_model(model_), "model/config.json: model_type is missing");
}

TEST_F(BadModelTest, NamesAKeyThatIsMissingOrHasNoPartHere) {
  edit(model_, [](auto& json) { json["rope_scaling"] = {{"rope_type", "yarn"}, {"factor", 2}}; });
  EXPECT_THROW_WITH(open_model(model_), "model/config.json: rotary: unknown scaling \"yarn\"");
  edit(model_, [](auto& json) { json["sliding_window"] = 5; });
  EXPECT_THROW_WITH(open_model(model_), "config.json: llama config: sliding_window has a value");
  edit(model_, [](auto& json) {
    json.erase("vocab_size");
    json.erase("sliding_window");
  });
  EXPECT_THROW_WITH(open_model(model_), "config.json: llama config: vocab_size is missing");
}

TEST_F(BadModelTest, NamesASettingOfTheCouplingThatIsMissingOrHasNoMeaning) {
  edit(coupled_, [](auto& json) { json["rev"]["memory"] = "burn"; });
  EXPECT_THROW_WITH(open_model(coupled_), "coupled/config.json: memory is \"burn\"");
  edit(coupled_, [](auto& json) { json["rev"]["a"] = {"1", "x"}; });
  EXPECT_THROW_WITH(open_model(coupled_), "coupled/config.json: a has \"x\", expected a number");
  edit(coupled_, [](auto& json) { json["rev"]["scheme"] = "euler", json["rev"].erase("a"); });
  EXPECT_THROW_WITH(open_model(coupled_), "coupled/config.json: a is missing");
  edit(coupled_, [](auto& json) {
    json["rev"]["a"] = nlohmann::json::array(), json["rev"]["memory"] = "invert";
  });
  EXPECT_THROW_WITH(open_model(coupled_), "coupled: unknown scheme \"euler\"");
  edit(coupled_, [](auto& json) { json.erase("rev"); });
  EXPECT_THROW_WITH(open_model(coupled_), "coupled/config.json: scheme is missing");
}

TEST_F(BadModelTest, NamesTensorsThatDoNotFit) {
  const auto loaded = io::load_safetensors(model_ / "model.safetensors");
  base::NamedTensors tensors;
  for (const auto& [name, tensor] : loaded) tensors.emplace_back(name, tensor.clone());
  const auto rewrite = [&](const base::NamedTensors& changed) {
    io::save_safetensors(model_ / "model.safetensors", changed);
  };
  base::NamedTensors changed = tensors;
  changed.emplace_back("extra", torch::ones({2000}));
  rewrite(changed);
  EXPECT_THROW_WITH(open_model(model_), "model: llama: unexpected extra");
  changed.erase(changed.begin());
  rewrite(changed);
  EXPECT_THROW_WITH(open_model(model_), "model: llama: missing " + tensors[0].first);
  changed = tensors;
  changed[0].second = torch::ones({3, 1000});
  rewrite(changed);
  EXPECT_THROW_WITH(open_model(model_), "of the wrong shape " + tensors[0].first);
}

TEST_F(BadModelTest, AllocatesNothingForParametersThatAreNotThere) {
  edit(model_, [](auto& json) { json["num_hidden_layers"] = int64_t{1} << 60; });
  EXPECT_THROW_WITH(open_model(model_), "its config asks for ");
  edit(model_,
       [](auto& json) { json["num_hidden_layers"] = 2, json["vocab_size"] = int64_t{1} << 50; });
  EXPECT_THROW_WITH(open_model(model_), "parameters, its tensors hold ");
}

TEST(SamplingOptionsTest, AreThoseOfTheFolder) {
  support::TempFolder folder;
  save_model(*models::Llama(small_llama("residual")), folder / "m");
  models::SamplingOptions options = sampling_options(folder / "m");
  EXPECT_EQ(options.temperature, 0);
  EXPECT_EQ(options.stop, (std::vector<int64_t>{2, 5}));
  const fs::path file = folder / "m/generation_config.json";
  support::write_bytes(file, R"({"temperature": 0.6, "top_p": 0.9, "eos_token_id": 7})");
  options = sampling_options(folder / "m");
  EXPECT_EQ(options.temperature, 0);
  EXPECT_EQ(options.stop, std::vector<int64_t>{7});
  support::write_bytes(file, R"({"do_sample": true, "temperature": 0.6, "top_p": 0.9})");
  options = sampling_options(folder / "m");
  EXPECT_EQ(options.temperature, 0.6);
  EXPECT_EQ(options.top_p, 0.9);
  EXPECT_EQ(options.top_k, 50);
  EXPECT_EQ(options.stop, (std::vector<int64_t>{2, 5}));
  support::write_bytes(file, R"({"do_sample": true, "top_k": "many"})");
  EXPECT_THROW_WITH(sampling_options(folder / "m"),
                    "generation_config.json: top_k is not of the expected type");
}

}  // namespace
}  // namespace rev::train
