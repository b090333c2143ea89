// A model's tensors as Hugging Face lays them out: one safetensors file, or several of them, the
// shards, with an index that says which tensor is in which.
#pragma once

#include <ATen/core/Tensor.h>
#include <filesystem>
#include <map>
#include <string>

namespace rev::io {

/// The tensors of all shards, by name, as `load_safetensors` gives those of one file.
///
/// path: a folder with `model.safetensors` or else `model.safetensors.index.json`, such an index
/// (known by its ending `.json`), or one file of tensors. The index is a JSON object whose
/// "weight_map" has the name of a shard, a file beside it, for each tensor's.
///
/// Throws c10::Error with one sentence naming the file and the reason: as `load_safetensors` for
/// each shard; for an index that is not as above or names a shard outside of its folder; and where
/// a shard is missing, lacks a tensor that the index places in it, or has one that the index places
/// elsewhere or does not name.
std::map<std::string, at::Tensor> load_sharded_safetensors(const std::filesystem::path& path);

}  // namespace rev::io
