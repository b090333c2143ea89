#include "rev/io/checkpoint.h"

#include <algorithm>
#include <c10/util/Exception.h>
#include <c10/util/ScopeExit.h>
#include <cctype>
#include <cerrno>
#include <charconv>
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <functional>
#include <nlohmann/json.hpp>
#include <string_view>
#include <system_error>
#include <unistd.h>

#include "rev/base/mapped_file.h"
#include "rev/base/remove_folder.h"
#include "rev/io/checksum.h"
#include "rev/io/file.h"
#include "rev/io/safetensors.h"

namespace rev::io {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

constexpr int kFormat = 1;
constexpr std::string_view kPrefix = "step-";
constexpr std::string_view kUnfinished = ".tmp";  // ends the name of a folder that is no checkpoint
constexpr std::string_view kFormer = ".former.tmp";  // of one that is being replaced
constexpr std::string_view kDamaged = ".damaged";
constexpr std::string_view kTensorSuffix = ".safetensors";
constexpr const char* kStateFile = "state.json";
constexpr const char* kManifestFile = "manifest.json";

fs::path checkpoints_of(const fs::path& run) { return run / "checkpoints"; }

std::string folder_name(std::int64_t step) { return std::string(kPrefix) + std::to_string(step); }

/// The step in the name `step-N`, or -1.
std::int64_t step_of(const fs::path& folder) {
  const std::string name = folder.filename().string();
  std::int64_t step = -1;
  if (name.starts_with(kPrefix)) {
    std::from_chars(name.data() + kPrefix.size(), name.data() + name.size(), step);
  }
  return step >= 0 && name == folder_name(step) ? step : -1;
}

/// What is in a run's folder of checkpoints; nothing where there is no such folder.
std::vector<fs::path> list_folder(const fs::path& folder) {
  std::vector<fs::path> entries;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error); !error && entry != fs::directory_iterator();
       entry.increment(error)) {
    entries.push_back(entry->path());
  }
  std::error_code ignored;
  const bool is_absent = error == std::errc::no_such_file_or_directory &&
                         !fs::is_symlink(fs::symlink_status(folder, ignored));
  TORCH_CHECK(!error || is_absent, folder.string(), ": cannot be read: ", error.message());
  return entries;
}

/// The checkpoint folders of a run, highest step first.
std::vector<fs::path> list_checkpoints(const fs::path& run) {
  std::vector<fs::path> folders;
  std::error_code ignored;
  for (const fs::path& entry : list_folder(checkpoints_of(run))) {
    if (step_of(entry) >= 0 && fs::is_directory(entry, ignored)) folders.push_back(entry);
  }
  std::sort(folders.begin(), folders.end(),
            [](const fs::path& a, const fs::path& b) { return step_of(a) > step_of(b); });
  return folders;
}

void rename_folder(const fs::path& from, const fs::path& to) {
  std::error_code error;
  fs::rename(from, to, error);
  TORCH_CHECK(!error, to.string(), ": cannot be put in place: ", error.message());
}

/// Gives its name back to a checkpoint that was being replaced when the process was killed.
void restore_former(const fs::path& checkpoints) {
  for (const fs::path& former : list_folder(checkpoints)) {
    const std::string name = former.filename().string();
    if (!name.ends_with(kFormer)) continue;
    const fs::path final = checkpoints / name.substr(0, name.size() - kFormer.size());
    std::error_code ignored;
    if (step_of(final) >= 0 && !fs::exists(final, ignored)) rename_folder(former, final);
  }
}

void remove_unfinished(const fs::path& checkpoints) {
  for (const fs::path& folder : list_folder(checkpoints)) {
    const std::string name = folder.filename().string();
    if (name.starts_with(kPrefix) && name.ends_with(kUnfinished)) base::remove_folder(folder);
  }
}

/// Gives the folder `made` the name `final`. A folder that has that name is then called `made`, in
/// one step, so that a checkpoint named `final` is there at every moment.
void publish_folder(const fs::path& made, const fs::path& final) {
  if (!fs::exists(final)) return rename_folder(made, final);
  if (::renameat2(AT_FDCWD, made.c_str(), AT_FDCWD, final.c_str(), RENAME_EXCHANGE) == 0) return;
  TORCH_CHECK(errno == EINVAL || errno == ENOSYS, final.string(),
              ": cannot be replaced: ", std::strerror(errno));
  // A file system that cannot exchange names; see restore_former.
  const fs::path former = final.string() + std::string(kFormer);
  rename_folder(final, former);
  auto put_back = c10::make_scope_exit([&] {
    std::error_code ignored;
    fs::rename(former, final, ignored);
  });
  rename_folder(made, final);
  put_back.release();
  rename_folder(former, made);
}

std::string checksum_text(const base::MappedFile& file) {
  char text[17];
  std::snprintf(text, sizeof(text), "%016" PRIx64, checksum(file.data(), file.size()));
  return text;
}

json describe(const fs::path& path) {
  const base::MappedFile file(path);
  return {{"bytes", file.size()}, {"xxh64", checksum_text(file)}};
}

std::string to_text(const json& manifest) { return manifest.dump(2) + "\n"; }

/// Throws where the folder or a file in it may not be read, which says nothing of what is in it.
void check_readable(const fs::path& folder) {
  for (const fs::path& file : list_folder(folder)) {
    const bool may_read = ::faccessat(AT_FDCWD, file.c_str(), R_OK, AT_EACCESS) == 0;
    TORCH_CHECK(may_read || errno != EACCES, file.string(),
                ": cannot be read: ", std::strerror(errno));
  }
}

/// Throws where the folder differs from its manifest; returns the names of the files in it.
std::vector<std::string> verify(const fs::path& folder) {
  std::error_code ignored;
  TORCH_CHECK(fs::is_regular_file(folder / kManifestFile, ignored), folder.string(), ": ",
              kManifestFile, " is missing");
  try {
    const std::string text = read_file(folder / kManifestFile);
    const json manifest = json::parse(text);
    TORCH_CHECK(text == to_text(manifest), folder.string(), ": ", kManifestFile, " is damaged");
    TORCH_CHECK(manifest.at("format") == kFormat, folder.string(), ": ", kManifestFile,
                ": expected format ", kFormat, ", got ", manifest.at("format").dump());
    TORCH_CHECK(manifest.at("step") == step_of(folder), folder.string(), ": ", kManifestFile,
                " is that of step ", manifest.at("step").dump());
    std::vector<std::string> names;
    for (const auto& [name, expected] : manifest.at("files").items()) {
      const std::string where = folder.string() + ": " + name;
      TORCH_CHECK(fs::path(name).filename() == name, where, " is not a file's name");
      TORCH_CHECK(fs::is_regular_file(folder / name, ignored), where, " is missing");
      const base::MappedFile file(folder / name);
      const auto bytes = expected.at("bytes").get<std::uint64_t>();
      TORCH_CHECK(file.size() == bytes, where, " has ", file.size(), " bytes, expected ", bytes);
      TORCH_CHECK(checksum_text(file) == expected.at("xxh64"), where,
                  " is damaged: its checksum is not the one in ", kManifestFile);
      names.push_back(name);
    }
    TORCH_CHECK(std::find(names.begin(), names.end(), kStateFile) != names.end(), folder.string(),
                ": ", kManifestFile, " does not name ", kStateFile);
    return names;
  } catch (const json::exception&) {
    TORCH_CHECK(false, folder.string(), ": ", kManifestFile, " is damaged");
  }
}

/// What a folder that was verified holds.
Checkpoint read(const fs::path& folder, const std::vector<std::string>& names) {
  Checkpoint checkpoint;
  checkpoint.step = step_of(folder);
  for (const std::string& name : names) {
    if (!name.ends_with(kTensorSuffix)) continue;
    checkpoint.groups.emplace(name.substr(0, name.size() - kTensorSuffix.size()),
                              load_safetensors(folder / name));
  }
  checkpoint.state = read_file(folder / kStateFile);
  return checkpoint;
}

/// use(folder, names of its files) for the newest checkpoint that verifies.
template <class Use>
FoundCheckpoint search(const fs::path& run, const Use& use) {
  restore_former(checkpoints_of(run));
  FoundCheckpoint found;
  for (const fs::path& folder : list_checkpoints(run)) {
    check_readable(folder);
    try {
      use(folder, verify(folder));
      found.folder = folder;
      break;
    } catch (const c10::Error& error) {
      found.refused.push_back({folder, error.what_without_backtrace()});
    }
  }
  return found;
}

void check_group_name(const std::string& name) {
  const auto fits = [](unsigned char c) { return std::isalnum(c) != 0 || c == '_' || c == '-'; };
  TORCH_CHECK(!name.empty() && std::all_of(name.begin(), name.end(), fits),
              "save_checkpoint: expected a group's name of letters, digits, '_' and '-', got \"",
              name, "\"");
}

}  // namespace

fs::path save_checkpoint(const fs::path& run, const Checkpoint& checkpoint) {
  TORCH_CHECK(checkpoint.step >= 0, "save_checkpoint: expected a step >= 0, got ", checkpoint.step);
  for (const auto& [group, tensors] : checkpoint.groups) check_group_name(group);
  const fs::path checkpoints = checkpoints_of(run);
  const fs::path final = checkpoints / folder_name(checkpoint.step);
  const fs::path made = final.string() + std::string(kUnfinished);
  create_folders(checkpoints);
  restore_former(checkpoints);
  remove_unfinished(checkpoints);
  create_folders(made);
  const auto clean = c10::make_scope_exit([&made] {
    try {
      base::remove_folder(made);
    } catch (const c10::Error&) {  // the next save tries again
    }
  });

  json files = json::object();
  const auto add = [&](const std::string& name, const std::function<void(const fs::path&)>& write) {
    write(made / name);
    files[name] = describe(made / name);
  };
  for (const auto& [group, tensors] : checkpoint.groups) {
    add(group + std::string(kTensorSuffix), [&](const fs::path& path) {
      save_safetensors(path, {tensors.begin(), tensors.end()});
    });
  }
  add(kStateFile, [&](const fs::path& path) { write_file_atomically(path, checkpoint.state); });
  const json manifest = {{"format", kFormat}, {"step", checkpoint.step}, {"files", files}};
  write_file_atomically(made / kManifestFile, to_text(manifest));

  publish_folder(made, final);
  sync_folder(checkpoints);
  sync_folder(run);
  return final;
}

Checkpoint load_checkpoint(const fs::path& folder) {
  TORCH_CHECK(step_of(folder) >= 0, "load_checkpoint: expected a folder named step-N, got ",
              folder.string());
  return read(folder, verify(folder));
}

FoundCheckpoint find_latest_checkpoint(const fs::path& run) {
  return search(run, [](const fs::path&, const std::vector<std::string>&) {});
}

LoadedCheckpoint load_latest_checkpoint(const fs::path& run) {
  LoadedCheckpoint loaded;
  loaded.found = search(run, [&](const fs::path& folder, const std::vector<std::string>& names) {
    loaded.checkpoint = read(folder, names);
  });
  return loaded;
}

fs::path set_aside_checkpoint(const fs::path& folder) {
  TORCH_CHECK(step_of(folder) >= 0, "set_aside_checkpoint: expected a folder named step-N, got ",
              folder.string());
  const std::string damaged = folder.string() + std::string(kDamaged);
  fs::path aside = damaged;
  std::error_code ignored;
  for (int n = 2; fs::exists(fs::symlink_status(aside, ignored)); ++n) {
    aside = damaged + "-" + std::to_string(n);
  }
  rename_folder(folder, aside);
  sync_folder(aside.parent_path());
  return aside;
}

void prune_checkpoints(const fs::path& run, std::int64_t keep) {
  TORCH_CHECK(keep >= 1, "prune_checkpoints: expected keep >= 1, got ", keep);
  std::vector<fs::path> folders = list_checkpoints(run);
  for (std::size_t i = static_cast<std::size_t>(keep); i < folders.size(); ++i) {
    // By another name first: a removal that is cut short leaves no checkpoint with missing files.
    const fs::path removed = folders[i].string() + std::string(kUnfinished);
    rename_folder(folders[i], removed);
    base::remove_folder(removed);
  }
}

}  // namespace rev::io
