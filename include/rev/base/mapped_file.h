#pragma once

#include <cstddef>
#include <filesystem>
#include <string_view>

namespace rev::base {

/// A regular file's bytes as memory: pages are read when they are first touched.
///
/// The mapping is private: writing to it changes memory, never the file. It stays valid when the
/// file is renamed, replaced by another or removed; a file that someone shortens in place ends the
/// process (SIGBUS) when a lost page is touched, as with every mapping.
class MappedFile {
 public:
  /// Throws c10::Error where path is missing, not a regular file or not readable.
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::filesystem::path& path() const { return path_; }
  std::byte* data() const { return data_; }  ///< aligned to a page; null where size is 0
  std::size_t size() const { return size_; }

  /// The same bytes as text.
  std::string_view text() const { return {reinterpret_cast<const char*>(data_), size_}; }

 private:
  std::filesystem::path path_;
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace rev::base
