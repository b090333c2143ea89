#include "rev/base/remove_folder.h"

#include <c10/util/Exception.h>
#include <system_error>
#include <vector>

namespace rev::base {

namespace fs = std::filesystem;

void remove_folder(const fs::path& folder) {
  std::error_code error;
  if (fs::is_directory(fs::symlink_status(folder, error))) {
    std::vector<fs::path> entries;  // listed first: a folder must not change while it is read
    for (const auto& entry : fs::directory_iterator(folder, error)) entries.push_back(entry.path());
    for (const fs::path& entry : entries) remove_folder(entry);
  }
  fs::remove(folder, error);
  TORCH_CHECK(!error, folder.string(), ": cannot be removed: ", error.message());
}

}  // namespace rev::base
