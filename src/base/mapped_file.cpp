#include "rev/base/mapped_file.h"

#include <c10/util/Exception.h>
#include <c10/util/ScopeExit.h>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace rev::base {

MappedFile::MappedFile(const std::filesystem::path& path) : path_(path) {
  // Not to block on a pipe that nobody writes to.
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  TORCH_CHECK(file >= 0, path.string(), ": cannot be read: ", std::strerror(errno));
  const auto close = c10::make_scope_exit([file] { ::close(file); });
  struct stat status;
  TORCH_CHECK(::fstat(file, &status) == 0, path.string(), ": ", std::strerror(errno));
  TORCH_CHECK(!S_ISDIR(status.st_mode), path.string(), ": expected a file, got a folder");
  TORCH_CHECK(S_ISREG(status.st_mode), path.string(), ": expected a regular file");
  size_ = static_cast<std::size_t>(status.st_size);
  if (size_ == 0) return;  // mmap knows no empty mapping
  void* data = ::mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, file, 0);
  TORCH_CHECK(data != MAP_FAILED, path.string(), ": cannot be mapped: ", std::strerror(errno));
  data_ = static_cast<std::byte*>(data);
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(data_, size_);
}

}  // namespace rev::base
