// A run's folder: config.json, model.safetensors, metrics.jsonl and checkpoints/step-N/.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "rev/io/checkpoint.h"
#include "rev/train/config_file.h"

namespace rev::train {

/// Throws c10::Error naming the first of `paths` that exists and is not an empty file: a new run
/// would write over it.
void check_new(const std::vector<std::filesystem::path>& paths);

/// Keeps a run's folder for this process: while one lives, making another of the same folder throws
/// c10::Error. The kernel lets go of it when the process ends, however it does. File systems that
/// know no locks (some of networks) keep nobody out.
class FolderLock {
 public:
  /// folder: must exist.
  explicit FolderLock(const std::filesystem::path& folder);
  ~FolderLock();
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

 private:
  int file_;
};

/// Throws c10::Error where fewer than `bytes` bytes are free where `folder` (which exists) lies.
void check_space(const std::filesystem::path& folder, int64_t bytes);

/// The checkpoint from which `run` goes on: the newest one that is whole; none where none was saved
/// yet. Newer ones, which are damaged, are set aside (`io::set_aside_checkpoint`). `say` receives a
/// line for each of them and one for what is found.
///
/// Throws c10::Error, with nothing renamed, where all are damaged or cannot be read, where there is
/// none but a model.safetensors that a run ended with, and where its settings are not `settings`,
/// of which those in `free` may differ.
std::optional<io::Checkpoint> find_start(const std::filesystem::path& run, const Settings& settings,
                                         const std::set<std::string>& free,
                                         const std::function<void(const std::string&)>& say);

}  // namespace rev::train
