#include "rev/train/model_files.h"

#include <c10/util/Exception.h>
#include <c10/util/ScopeExit.h>
#include <cstdint>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "models/hf_reader.h"
#include "rev/base/remove_folder.h"
#include "rev/io/file.h"
#include "rev/io/gguf.h"
#include "rev/io/safetensors.h"
#include "rev/io/sharded_safetensors.h"
#include "rev/models/gpt2.h"
#include "rev/models/llama.h"
#include "rev/train/config_file.h"
#include "rev/train/coupling_settings.h"
#include "train/gguf_llama.h"

namespace rev::train {

namespace fs = std::filesystem;

namespace {

using models::Coupling;
using models::HfKeys;

const char* const kConfig = "config.json";
const char* const kWeights = "model.safetensors";
const char* const kGeneration = "generation_config.json";

// fn(), whose errors begin with the path.
template <class Fn>
auto naming(const fs::path& path, const Fn& fn) {
  try {
    return fn();
  } catch (const c10::Error& error) {
    const std::string text = error.what_without_backtrace(), where = path.string() + ": ";
    TORCH_CHECK(false, text.starts_with(where) ? "" : where, text);
  }
}

// The model of a config with the tensors of its file.
template <class Impl, class Config>
std::shared_ptr<models::CausalLm> make_model(const Config& config,
                                             const base::NamedTensors& tensors) {
  double held = 0;
  for (const auto& named : tensors) held += static_cast<double>(named.second.numel());
  const double needed = count_parameters(config);
  TORCH_CHECK(needed <= held, "its config asks for ", needed, " parameters, its tensors hold ",
              held);
  const auto model = std::make_shared<Impl>(config);
  if (config.state && config.state->dtype == at::kDouble) model->to(at::kDouble);
  model->load_state_dict(tensors);
  return model;
}

// What a saved coupling, or the caller's, puts in place of the config's.
template <class Config>
Config coupled(Config config, const std::optional<Coupling>& saved,
               const std::optional<Coupling>& given) {
  if (saved) static_cast<Coupling&>(config) = *saved;
  if (given) static_cast<Coupling&>(config) = *given;
  check(config);
  return config;
}

std::shared_ptr<models::CausalLm> open_folder(const fs::path& folder,
                                              const std::optional<Coupling>& given) {
  const fs::path path = folder / kConfig;
  ConfigFile file = read_config(path);
  std::string type = models::HfReader(path.string(), file.model).get<std::string>("model_type");
  const bool ours = type.starts_with("rev-");
  if (ours) file.model["model_type"] = type = type.substr(4);
  TORCH_CHECK(type == "gpt2" || type == "llama", path.string(), ": model_type is \"", type,
              "\", expected gpt2 or llama");
  std::optional<Coupling> saved;
  if (ours || file.run.count("scheme") != 0) saved = coupling_from(file.run, path.string());
  const auto loaded = io::load_sharded_safetensors(folder);
  const base::NamedTensors tensors(loaded.begin(), loaded.end());
  if (type == "llama") {
    const auto config = naming(
        path, [&] { return coupled(models::LlamaConfig::from_hf(file.model), saved, given); });
    return naming(folder, [&] { return make_model<models::LlamaImpl>(config, tensors); });
  }
  auto config =
      naming(path, [&] { return coupled(models::Gpt2Config::from_hf(file.model), saved, given); });
  const auto bias = file.run.find("bias");  // which GPT-2 of Hugging Face's always has
  if (bias != file.run.end()) config.bias = bias->second != models::HfValue(false);
  return naming(folder, [&] { return make_model<models::Gpt2Impl>(config, tensors); });
}

models::LlamaConfig gguf_config(const io::GgufFile& file) {
  return naming(file.path(), [&] {
    const auto architecture = file.get<std::string>("general.architecture");
    TORCH_CHECK(architecture == "llama", "general.architecture is \"", architecture,
                "\", expected llama");
    return llama_config(file);
  });
}

bool is_folder(const fs::path& path) {
  std::error_code ignored;
  return fs::is_directory(path, ignored);
}

}  // namespace

std::shared_ptr<models::CausalLm> open_model(const fs::path& path,
                                             const std::optional<Coupling>& coupling) {
  if (is_folder(path)) return open_folder(path, coupling);
  const io::GgufFile file(path);
  const models::LlamaConfig own = gguf_config(file);
  return naming(path, [&] {
    const auto config = coupled(own, std::nullopt, coupling);
    return make_model<models::LlamaImpl>(config, llama_tensors(file, config));
  });
}

void save_model(const models::CausalLm& model, const fs::path& folder) {
  fs::path target = fs::absolute(folder).lexically_normal();
  if (!target.has_filename()) target = target.parent_path();  // "out/"
  std::error_code error;
  TORCH_CHECK(!fs::exists(target, error) || fs::is_empty(target, error), target.string(),
              ": is there already, and a model is written to a new folder");
  fs::path temporary = target;
  temporary += ".tmp";
  base::remove_folder(temporary);
  const auto clear = c10::make_scope_exit([&] {
    if (is_folder(temporary)) base::remove_folder(temporary);
  });
  io::create_folders(temporary);
  ConfigFile config{model.hf_keys(), {}};
  if (model.coupling().scheme != "residual") config.run = coupling_settings(model.coupling());
  write_config(temporary / kConfig, config);
  io::save_safetensors(temporary / kWeights, model.state_dict(), {{"format", "pt"}});
  fs::rename(temporary, target, error);
  TORCH_CHECK(!error, target.string(), ": cannot be written: ", error.message());
  io::sync_folder(target.parent_path());
}

models::SamplingOptions sampling_options(const fs::path& path) {
  models::SamplingOptions options;
  options.temperature = 0;
  if (!is_folder(path)) {
    options.stop = gguf_config(io::GgufFile(path)).eos;
    return options;
  }
  const HfKeys model = read_config(path / kConfig).model;
  options.stop = models::HfReader((path / kConfig).string(), model).ids("eos_token_id");
  const fs::path file = path / kGeneration;
  std::error_code ignored;
  if (!fs::exists(file, ignored)) return options;
  const HfKeys keys = read_config(file).model;
  const models::HfReader read(file.string(), keys);
  if (read.has("eos_token_id")) options.stop = read.ids("eos_token_id");
  if (!read.get("do_sample", false)) return options;
  options.temperature = read.number("temperature", 1);
  options.top_k = read.get<int64_t>("top_k", 50);  // transformers' default
  options.top_p = read.number("top_p", 1);
  return options;
}

}  // namespace rev::train
