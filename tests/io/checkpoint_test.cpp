#include "rev/io/checkpoint.h"

#include <chrono>
#include <filesystem>
#include <gtest/gtest.h>
#include <set>
#include <signal.h>
#include <string>
#include <sys/wait.h>
#include <thread>
#include <torch/torch.h>
#include <unistd.h>

#include "rev/base/remove_folder.h"
#include "support/ordinary_user.h"
#include "support/small_disk.h"
#include "support/temp_folder.h"
#include "support/throws.h"

namespace rev::io {
namespace {

namespace fs = std::filesystem;
using support::read_bytes;
using support::TempFolder;
using support::write_bytes;

/// A checkpoint whose every value is its step.
Checkpoint make_checkpoint(int64_t step, int64_t size = 5) {
  const double value = static_cast<double>(step);
  return {step,
          {{"model",
            {{"w", torch::full({size}, value)}, {"b", torch::full({2}, value, at::kBFloat16)}}},
           {"optimizer", {{"w.m", torch::full({size}, value, at::kDouble)}}}},
          R"({"position": )" + std::to_string(step) + "}"};
}

void expect_equal(const Checkpoint& a, const Checkpoint& b) {
  EXPECT_EQ(a.step, b.step);
  EXPECT_EQ(a.state, b.state);
  ASSERT_EQ(a.groups.size(), b.groups.size());
  for (const auto& [group, tensors] : a.groups) {
    ASSERT_EQ(tensors.size(), b.groups.at(group).size());
    for (const auto& [name, tensor] : tensors) {
      EXPECT_TRUE(at::equal(tensor, b.groups.at(group).at(name))) << group << "/" << name;
    }
  }
}

std::set<std::string> names_in(const fs::path& folder) {
  std::set<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) names.insert(entry.path().filename());
  return names;
}

TEST(CheckpointTest, ReadsBackWhatWasSaved) {
  TempFolder run;
  const fs::path folder = save_checkpoint(run.path(), make_checkpoint(7));
  EXPECT_EQ(folder, run / "checkpoints/step-7");
  EXPECT_EQ(names_in(folder), (std::set<std::string>{"manifest.json", "model.safetensors",
                                                     "optimizer.safetensors", "state.json"}));
  expect_equal(load_checkpoint(folder), make_checkpoint(7));
}

TEST(CheckpointTest, SameCheckpointGivesSameBytes) {
  TempFolder a, b;
  const fs::path in_a = save_checkpoint(a.path(), make_checkpoint(7));
  const fs::path in_b = save_checkpoint(b.path(), make_checkpoint(7));
  for (const std::string& name : names_in(in_a)) {
    EXPECT_EQ(read_bytes(in_a / name), read_bytes(in_b / name)) << name;
  }
}

TEST(CheckpointTest, NothingIsFoundWhereNothingIs) {
  TempFolder run;
  EXPECT_TRUE(find_latest_checkpoint(run.path()).folder.empty());
  EXPECT_TRUE(find_latest_checkpoint(run / "none").folder.empty());
  EXPECT_TRUE(find_latest_checkpoint(run / "none").refused.empty());
}

TEST(CheckpointTest, WhatCannotBeReadIsNotTakenForNothing) {
  TempFolder run;
  write_bytes(run / "checkpoints", "a file");
  EXPECT_THROW_WITH(find_latest_checkpoint(run.path()),
                    "checkpoints: cannot be read: Not a directory");
  EXPECT_THROW_WITH(prune_checkpoints(run.path(), 1), "cannot be read: Not a directory");
  fs::remove(run / "checkpoints");
  fs::create_symlink(run / "a disk that is not mounted", run / "checkpoints");
  EXPECT_THROW_WITH(find_latest_checkpoint(run.path()),
                    "checkpoints: cannot be read: No such file or directory");

  TempFolder locked;
  fs::permissions(locked.path(), fs::perms(0755));
  save_checkpoint(locked.path(), make_checkpoint(1));
  const fs::path newest = save_checkpoint(locked.path(), make_checkpoint(2));
  const auto expect_named = [&](const fs::path& path, const std::string& name) {
    const fs::perms before = fs::status(path).permissions();
    fs::permissions(path, fs::perms::none);
    {
      const support::OrdinaryUser user;
      if (!user.became()) GTEST_SKIP() << "cannot act as an ordinary user";
      EXPECT_THROW_WITH(find_latest_checkpoint(locked.path()),
                        name + ": cannot be read: Permission denied");
    }
    fs::permissions(path, before);
  };
  expect_named(locked / "checkpoints", "checkpoints");
  expect_named(newest, "checkpoints/step-2");
  expect_named(newest / "state.json", "checkpoints/step-2/state.json");
}

TEST(CheckpointTest, LatestIsTheHighestNumberNotTheLastName) {
  TempFolder run;
  for (const int64_t step : {10, 9, 100, 0}) save_checkpoint(run.path(), make_checkpoint(step));
  EXPECT_EQ(find_latest_checkpoint(run.path()).folder, run / "checkpoints/step-100");
  base::remove_folder(run / "checkpoints/step-100");
  EXPECT_EQ(find_latest_checkpoint(run.path()).folder, run / "checkpoints/step-10");
}

TEST(CheckpointTest, PassesOverWhatIsNoCheckpoint) {
  TempFolder run;
  save_checkpoint(run.path(), make_checkpoint(3));
  for (const char* name : {"step-", "step-04", "step-5x", "step--6", "step-9.tmp",
                           "step-99999999999999999999", "other"}) {
    fs::create_directories(run / "checkpoints" / name);
  }
  write_bytes(run / "checkpoints/step-8", "a file");
  const FoundCheckpoint found = find_latest_checkpoint(run.path());
  EXPECT_EQ(found.folder, run / "checkpoints/step-3");
  EXPECT_TRUE(found.refused.empty());
}

TEST(CheckpointTest, TheLatestIsLoadedAsItIsFound) {
  TempFolder run;
  EXPECT_TRUE(load_latest_checkpoint(run.path()).found.folder.empty());
  for (const int64_t step : {3, 4}) save_checkpoint(run.path(), make_checkpoint(step));
  write_bytes(run / "checkpoints/step-4/state.json", "other");
  const LoadedCheckpoint loaded = load_latest_checkpoint(run.path());
  EXPECT_EQ(loaded.found.folder, run / "checkpoints/step-3");
  EXPECT_EQ(loaded.found.refused.size(), 1u);
  expect_equal(loaded.checkpoint, make_checkpoint(3));
}

TEST(CheckpointTest, EveryFlippedBitIsFoundAndTheOneBeforeIsUsed) {
  TempFolder run;
  save_checkpoint(run.path(), make_checkpoint(4));
  const fs::path folder = save_checkpoint(run.path(), make_checkpoint(5));
  for (const std::string& name : names_in(folder)) {
    const std::string whole = read_bytes(folder / name);
    for (std::size_t bit = 0; bit < 8 * whole.size(); ++bit) {
      std::string flipped = whole;
      flipped[bit / 8] ^= static_cast<char>(1 << bit % 8);
      write_bytes(folder / name, flipped);
      const FoundCheckpoint found = find_latest_checkpoint(run.path());
      ASSERT_EQ(found.folder, run / "checkpoints/step-4") << name << ", bit " << bit;
      ASSERT_EQ(found.refused.size(), 1u);
      ASSERT_EQ(found.refused[0].folder, folder);
      const std::string& reason = found.refused[0].reason;
      ASSERT_EQ(reason.rfind(folder.string(), 0), 0u) << reason;
      if (name != "manifest.json") {
        ASSERT_EQ(reason, folder.string() + ": " + name +
                              " is damaged: its checksum is not the one in manifest.json");
      }
    }
    write_bytes(folder / name, whole);
  }
  EXPECT_EQ(find_latest_checkpoint(run.path()).folder, folder);
}

TEST(CheckpointTest, EveryTruncationIsFound) {
  TempFolder run;
  const fs::path folder = save_checkpoint(run.path(), make_checkpoint(5));
  for (const std::string& name : names_in(folder)) {
    const std::string whole = read_bytes(folder / name);
    for (std::size_t n = 0; n < whole.size(); ++n) {
      write_bytes(folder / name, whole.substr(0, n));
      EXPECT_THROW_WITH(load_checkpoint(folder), folder.string() + ": " + name) << n << " bytes";
    }
    write_bytes(folder / name, whole);
  }
}

TEST(CheckpointTest, MissingFileIsNamed) {
  TempFolder run;
  for (const char* name : {"model.safetensors", "optimizer.safetensors", "state.json"}) {
    const fs::path folder = save_checkpoint(run.path(), make_checkpoint(5));
    fs::remove(folder / name);
    EXPECT_THROW_WITH(load_checkpoint(folder), folder.string() + ": " + name + " is missing");
  }
  const fs::path folder = save_checkpoint(run.path(), make_checkpoint(5));
  fs::remove(folder / "manifest.json");
  EXPECT_THROW_WITH(load_checkpoint(folder), folder.string() + ": manifest.json is missing");
}

TEST(CheckpointTest, AFolderUnderAnotherStepsNameIsRefused) {
  TempFolder run;
  const fs::path folder = save_checkpoint(run.path(), make_checkpoint(5));
  fs::rename(folder, run / "checkpoints/step-6");
  EXPECT_THROW_WITH(load_checkpoint(run / "checkpoints/step-6"), "manifest.json is that of step 5");
  EXPECT_THROW_WITH(load_checkpoint(run.path()), "expected a folder named step-N, got ");
}

TEST(CheckpointTest, SavingAStepAgainReplacesIt) {
  TempFolder run;
  Checkpoint checkpoint = make_checkpoint(5);
  save_checkpoint(run.path(), checkpoint);
  checkpoint.state = "another";
  checkpoint.groups.erase("optimizer");
  const fs::path folder = save_checkpoint(run.path(), checkpoint);
  expect_equal(load_checkpoint(folder), checkpoint);
  EXPECT_EQ(names_in(run / "checkpoints"), (std::set<std::string>{"step-5"}));
}

TEST(CheckpointTest, NextSaveRemovesWhatWasLeftUnfinished) {
  TempFolder run;
  write_bytes(run / "checkpoints/step-6.tmp/model.safetensors", "half");
  write_bytes(run / "checkpoints/step-2.former.tmp/state.json", "whole, and replaced");
  save_checkpoint(run.path(), make_checkpoint(2));
  write_bytes(run / "checkpoints/notes.tmp", "not ours");
  save_checkpoint(run.path(), make_checkpoint(6));
  EXPECT_EQ(names_in(run / "checkpoints"),
            (std::set<std::string>{"notes.tmp", "step-2", "step-6"}));
}

// Where names cannot be exchanged, a process that is killed while it replaces a checkpoint leaves
// it under another name.
TEST(CheckpointTest, ACheckpointThatWasBeingReplacedGetsItsNameBack) {
  for (const bool saves : {false, true}) {
    TempFolder run;
    const fs::path folder = save_checkpoint(run.path(), make_checkpoint(5));
    fs::rename(folder, folder.string() + ".former.tmp");
    if (saves) save_checkpoint(run.path(), make_checkpoint(4));
    const FoundCheckpoint found = find_latest_checkpoint(run.path());
    ASSERT_EQ(found.folder, folder);
    expect_equal(load_checkpoint(folder), make_checkpoint(5));
  }
}

TEST(CheckpointTest, PruneKeepsTheHighestSteps) {
  TempFolder run;
  for (const int64_t step : {8, 9, 10, 11}) save_checkpoint(run.path(), make_checkpoint(step));
  const Checkpoint loaded = load_checkpoint(run / "checkpoints/step-8");
  prune_checkpoints(run.path(), 2);
  EXPECT_EQ(names_in(run / "checkpoints"), (std::set<std::string>{"step-10", "step-11"}));
  expect_equal(loaded, make_checkpoint(8));
  EXPECT_THROW_WITH(prune_checkpoints(run.path(), 0), "expected keep >= 1, got 0");
  prune_checkpoints(run / "none", 1);
}

TEST(CheckpointTest, WhatIsSetAsideIsNeitherFoundNorRemovedNorCounted) {
  TempFolder run;
  save_checkpoint(run.path(), make_checkpoint(4));
  for (const char* aside : {"step-5.damaged", "step-5.damaged-2", "step-5.damaged-3"}) {
    const fs::path folder = save_checkpoint(run.path(), make_checkpoint(5));
    write_bytes(folder / "state.json", "other");
    const FoundCheckpoint found = find_latest_checkpoint(run.path());
    ASSERT_EQ(found.refused.size(), 1u);
    EXPECT_EQ(set_aside_checkpoint(found.refused[0].folder), run / "checkpoints" / aside);
    EXPECT_EQ(read_bytes(run / "checkpoints" / aside / "state.json"), "other");
  }
  EXPECT_TRUE(find_latest_checkpoint(run.path()).refused.empty());
  prune_checkpoints(run.path(), 1);
  save_checkpoint(run.path(), make_checkpoint(6));
  EXPECT_EQ(names_in(run / "checkpoints"),
            (std::set<std::string>{"step-4", "step-5.damaged", "step-5.damaged-2",
                                   "step-5.damaged-3", "step-6"}));
  EXPECT_THROW_WITH(set_aside_checkpoint(run.path()), "expected a folder named step-N, got ");
  EXPECT_THROW_WITH(set_aside_checkpoint(run / "checkpoints/step-9"), "cannot be put in place");
}

TEST(CheckpointTest, RefusesNamesThatAreNoFileNames) {
  TempFolder run;
  for (const char* name : {"", "a/b", "..", "a b"}) {
    EXPECT_THROW_WITH(save_checkpoint(run.path(), {1, {{name, {}}}, ""}),
                      "expected a group's name");
  }
  EXPECT_THROW_WITH(save_checkpoint(run.path(), {-1, {}, ""}), "expected a step >= 0, got -1");
}

TEST(CheckpointTest, FullDiskKeepsTheOnesBefore) {
  TempFolder folder;
  const support::SmallDisk disk(folder / "run", 256);
  if (!disk.mounted()) GTEST_SKIP() << "mounting a small disk needs root";
  save_checkpoint(folder / "run", make_checkpoint(1));
  save_checkpoint(folder / "run", make_checkpoint(2));
  const Checkpoint large = make_checkpoint(2, 100'000);
  EXPECT_THROW_WITH(save_checkpoint(folder / "run", large), "No space left on device");
  EXPECT_EQ(names_in(folder / "run/checkpoints"), (std::set<std::string>{"step-1", "step-2"}));
  expect_equal(load_checkpoint(find_latest_checkpoint(folder / "run").folder), make_checkpoint(2));
}

TEST(CheckpointTest, NamesAFolderThatIsNotWritable) {
  TempFolder folder;
  fs::permissions(folder.path(), fs::perms(0755));
  fs::create_directory(folder / "run");
  fs::permissions(folder / "run", fs::perms(0555));
  const support::OrdinaryUser user;
  if (!user.became()) GTEST_SKIP() << "cannot act as an ordinary user";
  EXPECT_THROW_WITH(save_checkpoint(folder / "run", make_checkpoint(1)),
                    "run/checkpoints: folder cannot be made: Permission denied");
}

/// Saves step after step until it is killed.
[[noreturn]] void save_for_ever(const fs::path& run) {
  for (int64_t step = 0;; ++step) {
    save_checkpoint(run, make_checkpoint(step / 2, 20'000));  // each step twice: replacing, too
    prune_checkpoints(run, 2);
  }
}

TEST(CheckpointTest, KilledAtAnyMomentALatestOneVerifies) {
  TempFolder run;
  save_checkpoint(run.path(), make_checkpoint(0, 20'000));
  for (int moment = 0; moment < 15; ++moment) {
    const pid_t child = ::fork();
    if (child == 0) save_for_ever(run.path());
    std::this_thread::sleep_for(std::chrono::microseconds(5'000 + 3'700 * moment));
    ::kill(child, SIGKILL);
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status));

    const FoundCheckpoint found = find_latest_checkpoint(run.path());
    ASSERT_FALSE(found.folder.empty()) << "killed at moment " << moment;
    EXPECT_TRUE(found.refused.empty()) << found.refused[0].reason;
    const Checkpoint loaded = load_checkpoint(found.folder);
    expect_equal(loaded, make_checkpoint(loaded.step, 20'000));
  }
}

}  // namespace
}  // namespace rev::io
