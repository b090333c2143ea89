#include "rev/io/sharded_safetensors.h"

#include <filesystem>
#include <gtest/gtest.h>
#include <string>
#include <torch/torch.h>

#include "rev/io/safetensors.h"
#include "support/temp_folder.h"
#include "support/throws.h"

namespace rev::io {
namespace {

using support::TempFolder;
using support::write_bytes;

constexpr const char* kIndex = "model.safetensors.index.json";

/// Two shards, "one" with tensors a and b, "two" with c, and the index that is given.
void write_model(const TempFolder& folder, const std::string& weight_map) {
  save_safetensors(folder / "one", {{"a", torch::ones({2})}, {"b", torch::zeros({3})}});
  save_safetensors(folder / "two", {{"c", torch::arange(4)}});
  write_bytes(folder / kIndex,
              R"({"metadata": {"total_size": 52}, "weight_map": )" + weight_map + "}");
}

constexpr const char* kRight = R"({"a": "one", "b": "one", "c": "two"})";

TEST(ShardedSafetensorsTest, LoadsAllShardsAsOneMap) {
  TempFolder folder;
  write_model(folder, kRight);
  for (const auto& path : {folder.path(), folder / kIndex}) {
    const auto tensors = load_sharded_safetensors(path);
    ASSERT_EQ(tensors.size(), 3u);
    EXPECT_TRUE(at::equal(tensors.at("a"), torch::ones({2})));
    EXPECT_TRUE(at::equal(tensors.at("b"), torch::zeros({3})));
    EXPECT_TRUE(at::equal(tensors.at("c"), torch::arange(4)));
  }
}

TEST(ShardedSafetensorsTest, LoadsOneFileToo) {
  TempFolder folder;
  write_model(folder, "{}");
  save_safetensors(folder / "model.safetensors", {{"whole", torch::ones({1})}});
  EXPECT_EQ(load_sharded_safetensors(folder.path()).count("whole"), 1u);
  EXPECT_EQ(load_sharded_safetensors(folder / "model.safetensors").count("whole"), 1u);
  EXPECT_EQ(load_sharded_safetensors(folder / "two").count("c"), 1u);
}

TEST(ShardedSafetensorsTest, FollowsLinksToShards) {
  TempFolder folder;
  write_model(folder, kRight);
  std::filesystem::create_directory(folder / "blobs");
  std::filesystem::rename(folder / "two", folder / "blobs/two");
  std::filesystem::create_symlink("blobs/two", folder / "two");
  EXPECT_EQ(load_sharded_safetensors(folder.path()).size(), 3u);
}

TEST(ShardedSafetensorsTest, RefusesFoldersWithoutAModel) {
  TempFolder folder;
  EXPECT_THROW_WITH(load_sharded_safetensors(folder.path()),
                    folder.path().string() +
                        ": expected a folder with model.safetensors or "
                        "model.safetensors.index.json");
  EXPECT_THROW_WITH(load_sharded_safetensors(folder / "none"), "none: cannot be read");
  EXPECT_THROW_WITH(load_sharded_safetensors(folder / "none.json"), "none.json: cannot be read");
}

TEST(ShardedSafetensorsTest, RefusesAnIndexThatDoesNotFit) {
  TempFolder folder;
  const auto load = [&](const std::string& weight_map) {
    write_model(folder, weight_map);
    load_sharded_safetensors(folder.path());
  };
  const std::string index = (folder / kIndex).string();
  EXPECT_THROW_WITH(load(R"({"a": "one", "b": "one", "c": "three"})"),
                    index + ": its shard \"three\" is missing");
  EXPECT_THROW_WITH(
      load(R"({"a": "one", "b": "two", "c": "two"})"),
      "one: has the tensor \"b\", which model.safetensors.index.json places in \"two\"");
  EXPECT_THROW_WITH(load(R"({"a": "one", "c": "two"})"),
                    "one: has the tensor \"b\", which model.safetensors.index.json does not name");
  EXPECT_THROW_WITH(load(R"({"a": "one", "b": "one", "c": "two", "d": "two"})"),
                    "two: lacks the tensor \"d\", which model.safetensors.index.json places in it");
  EXPECT_THROW_WITH(load(R"({"a": "one", "a": "two", "b": "one", "c": "two"})"),
                    index + ": names \"a\" twice");
  EXPECT_THROW_WITH(load("[1]"), index + ": expected \"weight_map\" to be an object, got [1]");
  EXPECT_THROW_WITH(load(R"({"a": 1})"), index + ": the shard of tensor \"a\" is not a string");
  EXPECT_THROW_WITH(load("{"), index + ": not JSON at line 1, column ");
  write_bytes(folder / kIndex, "{}");
  EXPECT_THROW_WITH(load_sharded_safetensors(folder.path()),
                    index + ": has no \"weight_map\", expected an object");
}

TEST(ShardedSafetensorsTest, RefusesATensorThatIsInTwoShards) {
  TempFolder folder;
  write_model(folder, kRight);
  save_safetensors(folder / "two", {{"a", torch::ones({2})}, {"c", torch::arange(4)}});
  EXPECT_THROW_WITH(
      load_sharded_safetensors(folder.path()),
      "two: has the tensor \"a\", which model.safetensors.index.json places in \"one\"");
}

TEST(ShardedSafetensorsTest, RefusesADamagedShard) {
  TempFolder folder;
  write_model(folder, kRight);
  write_bytes(folder / "two", support::read_bytes(folder / "two").substr(0, 90));
  EXPECT_THROW_WITH(load_sharded_safetensors(folder.path()), (folder / "two").string() + ": ");
}

TEST(ShardedSafetensorsTest, RefusesShardsOutsideOfTheFolder) {
  TempFolder folder;
  for (const char* shard : {"../one", "/etc/passwd", "sub/one", "..", ".", "", "one\\u0000"}) {
    write_model(folder, std::string(R"({"a": ")") + shard + "\"}");
    EXPECT_THROW_WITH(load_sharded_safetensors(folder.path()),
                      "is not the name of a file in the folder of the index")
        << shard;
  }
}

}  // namespace
}  // namespace rev::io
