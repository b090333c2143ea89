#include "rev/io/file.h"

#include <algorithm>
#include <c10/util/Exception.h>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <system_error>
#include <unistd.h>

#include "rev/base/mapped_file.h"

namespace rev::io {
namespace {

namespace fs = std::filesystem;

fs::path folder_of(const fs::path& path) {
  return path.has_parent_path() ? path.parent_path() : fs::path(".");
}

[[noreturn]] void fail_to_create(const fs::path& path, int error) {
  const fs::path folder = folder_of(path);
  std::error_code ignored;
  TORCH_CHECK(fs::is_directory(folder, ignored), path.string(),
              ": cannot be written: ", folder.string(),
              fs::exists(folder, ignored) ? " is not a folder" : " does not exist");
  const bool forbidden = error == EACCES || error == EPERM || error == EROFS;
  TORCH_CHECK(!forbidden, path.string(), ": cannot be written: folder ", folder.string(),
              " is not writable (", std::strerror(error), ")");
  TORCH_CHECK(false, path.string(), ": cannot be written: ", std::strerror(error));
}

}  // namespace

AtomicFile::AtomicFile(const fs::path& path) : path_(path), temporary_(path) {
  temporary_ += ".tmp";
  std::error_code ignored;
  TORCH_CHECK(!fs::is_directory(path, ignored), path.string(), ": expected a file, got a folder");
  TORCH_CHECK(!fs::is_other(path, ignored), path.string(),
              ": expected a file, got a device, pipe or socket, which a rename would replace");
  ::unlink(temporary_.c_str());  // a killed writer's
  file_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (file_ < 0) fail_to_create(path, errno);
}

AtomicFile::~AtomicFile() {
  if (file_ < 0) return;
  ::close(file_);
  ::unlink(temporary_.c_str());
}

void AtomicFile::write(const void* data, std::size_t bytes) {
  const auto* next = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t n = ::write(file_, next, bytes);
    if (n < 0 && errno == EINTR) continue;
    TORCH_CHECK(n >= 0, path_.string(), ": cannot be written: ", std::strerror(errno), " (after ",
                written_, " bytes)");
    next += n;
    bytes -= static_cast<std::size_t>(n);
    written_ += static_cast<std::uint64_t>(n);
  }
}

void AtomicFile::commit() {
  TORCH_CHECK(::fsync(file_) == 0, path_.string(), ": cannot be written: ", std::strerror(errno));
  TORCH_CHECK(::rename(temporary_.c_str(), path_.c_str()) == 0, path_.string(),
              ": cannot be replaced: ", std::strerror(errno));
  ::close(file_);  // fsync has reported what close could
  file_ = -1;
  sync_folder(folder_of(path_));
}

void write_file_atomically(const fs::path& path, std::string_view bytes) {
  AtomicFile file(path);
  file.write(bytes);
  file.commit();
}

std::string read_file(const fs::path& path) { return std::string(base::MappedFile(path).text()); }

void sync_folder(const fs::path& folder) {
  const int file = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  TORCH_CHECK(file >= 0, folder.string(), ": ", std::strerror(errno));
  const int failed = ::fsync(file) == 0 ? 0 : errno;
  ::close(file);
  // EINVAL: a file system that has nothing to sync for a folder.
  TORCH_CHECK(failed == 0 || failed == EINVAL, folder.string(), ": ", std::strerror(failed));
}

void create_folders(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  TORCH_CHECK(!error && fs::is_directory(folder), folder.string(),
              ": folder cannot be made: ", error.message());
}

}  // namespace rev::io
