#include "rev/train/run_folder.h"

#include <c10/util/Exception.h>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/file.h>
#include <system_error>
#include <unistd.h>

#include "rev/train/run_state.h"

namespace rev::train {

namespace fs = std::filesystem;

void check_new(const std::vector<fs::path>& paths) {
  std::error_code ignored;
  for (const fs::path& path : paths) {
    const bool holds_nothing =
        fs::is_regular_file(path, ignored) && fs::file_size(path, ignored) == 0;
    const bool is_there = fs::exists(fs::symlink_status(path, ignored));  // a link to nothing is
    TORCH_CHECK(!is_there || holds_nothing, path.string(),
                " is there already: --resume goes on with a run, another --out starts one");
  }
}

FolderLock::FolderLock(const fs::path& folder)
    : file_(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
  TORCH_CHECK(file_ >= 0, folder.string(), ": cannot be opened: ", std::strerror(errno));
  if (::flock(file_, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK) return;
  ::close(file_);
  TORCH_CHECK(false, folder.string(), ": another process is training in this folder");
}

FolderLock::~FolderLock() { ::close(file_); }

void check_space(const fs::path& folder, int64_t bytes) {
  constexpr int64_t kMega = 1000000;
  std::error_code error;
  const fs::space_info space = fs::space(folder, error);
  if (error) return;  // a file system that cannot tell
  const auto available = static_cast<int64_t>(space.available);
  TORCH_CHECK(available >= bytes, folder.string(), ": the run needs ", (bytes + kMega - 1) / kMega,
              " MB, ", available / kMega, " MB are free");
}

std::optional<io::Checkpoint> find_start(const fs::path& run, const Settings& settings,
                                         const std::set<std::string>& free,
                                         const std::function<void(const std::string&)>& say) {
  const auto [found, checkpoint] = io::load_latest_checkpoint(run);
  const std::string folder = found.folder.string();
  if (folder.empty()) {
    for (const io::RefusedCheckpoint& refused : found.refused) say("refused: " + refused.reason);
    TORCH_CHECK(found.refused.empty(), run.string(), ": no checkpoint is whole; remove ",
                (run / "checkpoints").string(), " to start over");
    std::error_code ignored;
    const fs::path model = run / "model.safetensors";
    TORCH_CHECK(!fs::exists(model, ignored), model.string(), " is there, but no checkpoint in ",
                (run / "checkpoints").string(), ": remove it to start over");
    say("no checkpoint in " + run.string() + " yet: starting over");
    return std::nullopt;
  }
  check_same_settings(settings_of(checkpoint, folder), settings, free, folder);
  // Left among the others they would count as the newest, and whole ones be removed for them.
  for (const io::RefusedCheckpoint& refused : found.refused) {
    const fs::path aside = io::set_aside_checkpoint(refused.folder);
    say("refused: " + refused.reason + "; renamed to " + aside.filename().string());
  }
  say("going on from " + folder);
  return checkpoint;
}

}  // namespace rev::train
