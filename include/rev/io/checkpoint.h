// Checkpoints of a training run, in DIR/checkpoints/step-N/: one safetensors file a group of
// tensors, state.json, and manifest.json with the size and checksum of each of them. A folder gets
// its name only when everything in it is on disk, so a checkpoint is there whole or not at all; the
// manifest finds what was damaged later.
#pragma once

#include <ATen/core/Tensor.h>
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

namespace rev::io {

/// All that a run needs to go on from a step.
struct Checkpoint {
  std::int64_t step = 0;  ///< optimizer steps done
  /// Tensors by group and name, for instance "model" and "optimizer". A group's name is a file's
  /// name: letters, digits, '_' and '-'.
  std::map<std::string, std::map<std::string, at::Tensor>> groups;
  std::string state;  ///< everything else as text, JSON by custom; kept byte for byte
};

/// Writes `run/checkpoints/step-N` durably and returns its path.
///
/// One of the same step is replaced. What killed processes left half written is removed first. When
/// this throws, every checkpoint that was there is still there. Throws c10::Error (no space left,
/// folder not writable, a tensor that `save_safetensors` refuses).
std::filesystem::path save_checkpoint(const std::filesystem::path& run,
                                      const Checkpoint& checkpoint);

/// Reads a checkpoint folder after verifying it. The tensors share memory mappings of its files,
/// which outlive the folder. Throws c10::Error with one sentence naming folder, file and reason
/// where a file is missing, has another size or another checksum than the manifest says, or cannot
/// be read.
Checkpoint load_checkpoint(const std::filesystem::path& folder);

/// A checkpoint that is damaged.
struct RefusedCheckpoint {
  std::filesystem::path folder;
  std::string reason;  ///< a sentence that names folder, file and reason
};

/// What a search for a checkpoint found.
struct FoundCheckpoint {
  std::filesystem::path folder;            ///< empty where there is none
  std::vector<RefusedCheckpoint> refused;  ///< the newer ones that are damaged
};

/// The checkpoint of the highest step in `run/checkpoints` that verifies: every byte is read and
/// compared with the manifest. No such folder: nothing found. Where names cannot be exchanged (on
/// some network file systems), one that a killed process was replacing has another name, and gets
/// its own back. Throws c10::Error where the folder cannot be read.
FoundCheckpoint find_latest_checkpoint(const std::filesystem::path& run);

/// The same search, and what it found as `load_checkpoint` gives it; each file is read once.
struct LoadedCheckpoint {
  FoundCheckpoint found;
  Checkpoint checkpoint;  ///< of found.folder; empty where there is none
};
LoadedCheckpoint load_latest_checkpoint(const std::filesystem::path& run);

/// Renames a checkpoint folder to step-N.damaged (step-N.damaged-2 and so on where that is taken)
/// and returns the new path. Under that name it is no checkpoint: nothing finds or removes it.
/// Throws c10::Error where it cannot be renamed.
std::filesystem::path set_aside_checkpoint(const std::filesystem::path& folder);

/// Removes all but the `keep` checkpoints of the highest steps; keep >= 1. What is damaged counts,
/// too: set it aside first. Throws c10::Error where it cannot.
void prune_checkpoints(const std::filesystem::path& run, std::int64_t keep);

}  // namespace rev::io
