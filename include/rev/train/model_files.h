// Models as files: Hugging Face's folders, those that are written here, and GGUF files.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>

#include "rev/models/causal_lm.h"
#include "rev/models/coupling.h"
#include "rev/models/generate.h"

namespace rev::train {

/// The model in a folder with `config.json` (model_type gpt2, llama, or what `save_model` and
/// rev-gpt2 write) and `model.safetensors` or its shards; or in a GGUF file of the architecture
/// llama, of any type that `io::GgufFile` loads. Its parameters are float32 on the CPU, float64
/// where its states are.
///
/// coupling: in place of the model's own, which is residual for one of other programs.
///
/// Throws c10::Error with one sentence that names the path and the reason: a file that is missing
/// or damaged, a model_type or architecture that is not supported, a key or tensor that is missing,
/// unexpected, or of another type, value or shape than the model has a part for. Nothing is
/// allocated for parameters that the file does not hold.
std::shared_ptr<models::CausalLm> open_model(const std::filesystem::path& path,
                                             const std::optional<models::Coupling>& coupling = {});

/// Writes a model to a new folder (or an empty one), whole or not at all: `config.json` and
/// `model.safetensors`, as Hugging Face names them; a residual model loads in `transformers`.
/// `open_model` makes the same model of it. Throws c10::Error where the folder holds something or
/// cannot be written.
void save_model(const models::CausalLm& model, const std::filesystem::path& folder);

/// How the model's own files say that it is sampled: temperature, top_k and top_p of a folder's
/// `generation_config.json` (temperature 0, the likeliest token, unless it has `do_sample`), and
/// the tokens that end a text, of that file or else of `config.json` or of the GGUF file. The seed
/// and the number of tokens are the defaults. Throws c10::Error as `open_model`.
models::SamplingOptions sampling_options(const std::filesystem::path& path);

}  // namespace rev::train
