#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace rev::io {

/// A file that comes into being whole or not at all.
///
/// Bytes go to `PATH.tmp` in the same folder; `commit` makes them durable (fsync) and renames that
/// file to PATH, so that whoever reads PATH, even after a power cut, sees the former content or the
/// new one. Without a commit PATH is left as it was and `PATH.tmp` is removed; a killed process
/// leaves it behind and the next write to PATH replaces it. Two writers of one path at a time are
/// not supported.
///
/// Everything throws c10::Error with one sentence that names PATH and the cause (no space left,
/// folder missing or not writable, ...).
class AtomicFile {
 public:
  explicit AtomicFile(const std::filesystem::path& path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(const void* data, std::size_t bytes);
  void write(std::string_view text) { write(text.data(), text.size()); }
  void commit();

 private:
  std::filesystem::path path_;
  std::filesystem::path temporary_;
  int file_ = -1;
  std::uint64_t written_ = 0;
};

/// Writes bytes to path by an AtomicFile.
void write_file_atomically(const std::filesystem::path& path, std::string_view bytes);

/// The whole file at path. Throws c10::Error where it cannot be read.
std::string read_file(const std::filesystem::path& path);

/// Makes the names in a folder durable (what was created, renamed or removed there).
void sync_folder(const std::filesystem::path& folder);

/// Creates a folder and those above it. Throws c10::Error naming the one that cannot be made.
void create_folders(const std::filesystem::path& folder);

}  // namespace rev::io
