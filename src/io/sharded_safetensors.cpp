#include "rev/io/sharded_safetensors.h"

#include <c10/util/Exception.h>
#include <system_error>

#include "io/json.h"
#include "rev/io/safetensors.h"

namespace rev::io {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

constexpr const char* kFile = "model.safetensors";
constexpr const char* kIndex = "model.safetensors.index.json";
constexpr const char* kMap = "weight_map";

/// A name that leads to a file beside the index and nowhere else.
bool is_file_name(const std::string& name) {
  return !name.empty() && name != "." && name != ".." &&
         name.find_first_of(std::string_view("/\0", 2)) == std::string::npos;
}

/// The shard of each tensor.
std::map<std::string, std::string> read_index(const fs::path& index) {
  std::map<std::string, std::string> shards;
  const json content = read_json(index);
  for (const auto& [name, shard] : get_json<json::object_t>(content, kMap, index.string())) {
    const std::string where = index.string() + ": the shard of tensor " + quoted(name);
    TORCH_CHECK(shard.is_string(), where, " is not a string");
    const auto& file = shard.get_ref<const std::string&>();
    TORCH_CHECK(is_file_name(file), where, ", ", quoted(file),
                ", is not the name of a file in the folder of the index");
    shards.emplace(name, file);
  }
  return shards;
}

std::map<std::string, at::Tensor> load_shards(const fs::path& index) {
  const std::map<std::string, std::string> shards = read_index(index);
  std::map<std::string, std::map<std::string, at::Tensor>> loaded;  // by shard
  for (const auto& [name, shard] : shards) {
    if (loaded.count(shard) != 0) continue;
    const fs::path path = index.parent_path() / shard;
    std::error_code ignored;
    TORCH_CHECK(fs::exists(path, ignored), index.string(), ": its shard ", quoted(shard),
                " is missing");
    loaded.emplace(shard, load_safetensors(path));
  }

  std::map<std::string, at::Tensor> tensors;
  for (auto& [shard, contents] : loaded) {
    for (auto& [name, tensor] : contents) {
      const std::string where =
          (index.parent_path() / shard).string() + ": has the tensor " + quoted(name);
      const auto expected = shards.find(name);
      TORCH_CHECK(expected != shards.end(), where, ", which ", index.filename().string(),
                  " does not name");
      TORCH_CHECK(expected->second == shard, where, ", which ", index.filename().string(),
                  " places in ", quoted(expected->second));
      tensors.emplace(name, std::move(tensor));
    }
  }
  for (const auto& [name, shard] : shards) {
    TORCH_CHECK(tensors.count(name) != 0, (index.parent_path() / shard).string(),
                ": lacks the tensor ", quoted(name), ", which ", index.filename().string(),
                " places in it");
  }
  return tensors;
}

}  // namespace

std::map<std::string, at::Tensor> load_sharded_safetensors(const fs::path& path) {
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) {
    if (fs::exists(path / kFile, ignored)) return load_safetensors(path / kFile);
    TORCH_CHECK(fs::exists(path / kIndex, ignored), path.string(), ": expected a folder with ",
                kFile, " or ", kIndex);
    return load_shards(path / kIndex);
  }
  return path.extension() == ".json" ? load_shards(path) : load_safetensors(path);
}

}  // namespace rev::io
