// A Llama in a GGUF file under llama.cpp's names and layouts, as Hugging Face has it.
#pragma once

#include "rev/base/named_tensors.h"
#include "rev/io/gguf.h"
#include "rev/models/llama_config.h"

namespace rev::train {

/// The model that the metadata describe, scheme residual. Throws c10::Error naming the key or
/// tensor that is missing or has no part in this model.
models::LlamaConfig llama_config(const io::GgufFile& file);

/// The tensors under Hugging Face's names and in its layouts; tensors of other names keep theirs.
base::NamedTensors llama_tensors(const io::GgufFile& file, const models::LlamaConfig& config);

}  // namespace rev::train
