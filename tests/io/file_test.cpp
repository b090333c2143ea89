#include "rev/io/file.h"

#include <filesystem>
#include <gtest/gtest.h>
#include <signal.h>
#include <string>
#include <sys/resource.h>
#include <sys/stat.h>

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

std::size_t count_entries(const fs::path& folder) {
  return static_cast<std::size_t>(
      std::distance(fs::directory_iterator(folder), fs::directory_iterator()));
}

TEST(FileTest, WritesReplacesAndReadsBack) {
  TempFolder folder;
  write_file_atomically(folder / "a", "first");
  EXPECT_EQ(read_file(folder / "a"), "first");
  write_file_atomically(folder / "a", std::string("\0second", 7));
  EXPECT_EQ(read_file(folder / "a"), std::string("\0second", 7));
  write_file_atomically(folder / "a", "");
  EXPECT_EQ(read_file(folder / "a"), "");
  EXPECT_EQ(count_entries(folder.path()), 1u);
}

TEST(FileTest, NothingChangesWithoutCommit) {
  TempFolder folder;
  write_bytes(folder / "a", "before");
  {
    AtomicFile file(folder / "a");
    file.write("half of wh");
    EXPECT_EQ(read_bytes(folder / "a"), "before");
  }
  EXPECT_EQ(read_bytes(folder / "a"), "before");
  EXPECT_EQ(count_entries(folder.path()), 1u);
}

TEST(FileTest, ReplacesWhatAKilledWriterLeft) {
  TempFolder folder;
  write_bytes(folder / "a.tmp", "left by a killed process");
  write_file_atomically(folder / "a", "new");
  EXPECT_EQ(read_bytes(folder / "a"), "new");
  EXPECT_EQ(count_entries(folder.path()), 1u);
}

TEST(FileTest, NamesAFolderThatIsMissing) {
  TempFolder folder;
  const std::string missing = (folder / "no").string();
  EXPECT_THROW_WITH(write_file_atomically(folder / "no/a", "x"),
                    "a: cannot be written: " + missing + " does not exist");
}

TEST(FileTest, NamesAFolderThatIsAFile) {
  TempFolder folder;
  write_bytes(folder / "file", "x");
  EXPECT_THROW_WITH(write_file_atomically(folder / "file/a", "x"), "file is not a folder");
  EXPECT_THROW_WITH(create_folders(folder / "file/a"), "file/a: folder cannot be made");
}

TEST(FileTest, RefusesToReplaceAFolder) {
  TempFolder folder;
  EXPECT_THROW_WITH(write_file_atomically(folder.path(), "x"), "expected a file, got a folder");
}

TEST(FileTest, NamesAFolderThatIsNotWritable) {
  TempFolder folder;
  write_bytes(folder / "closed/a", "before");
  fs::permissions(folder.path(), fs::perms(0755));
  fs::permissions(folder / "closed", fs::perms(0555));
  {
    const support::OrdinaryUser user;
    if (!user.became()) GTEST_SKIP() << "cannot act as an ordinary user";
    EXPECT_THROW_WITH(write_file_atomically(folder / "closed/a", "x"),
                      "closed is not writable (Permission denied)");
    EXPECT_THROW_WITH(create_folders(folder / "closed/new"), "folder cannot be made: Permission");
  }
  EXPECT_EQ(read_bytes(folder / "closed/a"), "before");
  fs::permissions(folder / "closed", fs::perms(0755));
}

TEST(FileTest, FullDiskKeepsTheFormerFile) {
  TempFolder folder;
  const support::SmallDisk disk(folder / "disk", 64);
  if (!disk.mounted()) GTEST_SKIP() << "mounting a small disk needs root";
  write_file_atomically(folder / "disk/a", "before");
  EXPECT_THROW_WITH(write_file_atomically(folder / "disk/a", std::string(100'000, 'x')),
                    "a: cannot be written: No space left on device (after ");
  EXPECT_EQ(read_bytes(folder / "disk/a"), "before");
  EXPECT_EQ(count_entries(folder / "disk"), 1u);
}

TEST(FileTest, WhatIsNoFileIsNotReplaced) {
  TempFolder folder;
  ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
  EXPECT_THROW_WITH(write_file_atomically(folder / "pipe", "x"),
                    "pipe: expected a file, got a dev");
  EXPECT_TRUE(std::filesystem::is_fifo(folder / "pipe"));
}

TEST(FileTest, FileSizeLimitKeepsTheFormerFile) {
  TempFolder folder;
  write_file_atomically(folder / "a", "before");
  rlimit before;
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const rlimit small = {10'000, before.rlim_max};
  const auto handler = ::signal(SIGXFSZ, SIG_IGN);
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  const std::string message =
      support::message_of([&] { write_file_atomically(folder / "a", std::string(100'000, 'x')); });
  ::setrlimit(RLIMIT_FSIZE, &before);
  ::signal(SIGXFSZ, handler);
  EXPECT_EQ(message,
            (folder / "a").string() + ": cannot be written: File too large (after 10000 bytes)");
  EXPECT_EQ(read_bytes(folder / "a"), "before");
  EXPECT_EQ(count_entries(folder.path()), 1u);
}

}  // namespace
}  // namespace rev::io
