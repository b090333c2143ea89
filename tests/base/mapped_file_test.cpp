#include "rev/base/mapped_file.h"

#include <filesystem>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "support/temp_folder.h"
#include "support/throws.h"

namespace rev::base {
namespace {

using support::read_bytes;
using support::TempFolder;
using support::write_bytes;

TEST(MappedFileTest, ShowsTheFilesBytes) {
  TempFolder folder;
  write_bytes(folder / "a", "some text");
  const MappedFile file(folder / "a");
  EXPECT_EQ(file.text(), "some text");
  EXPECT_EQ(file.path(), folder / "a");
}

TEST(MappedFileTest, EmptyFileHasNoBytes) {
  TempFolder folder;
  write_bytes(folder / "a", "");
  EXPECT_EQ(MappedFile(folder / "a").size(), 0u);
}

TEST(MappedFileTest, WritingChangesMemoryNotTheFile) {
  TempFolder folder;
  write_bytes(folder / "a", "some text");
  const MappedFile file(folder / "a");
  file.data()[0] = std::byte{'S'};
  EXPECT_EQ(file.text(), "Some text");
  EXPECT_EQ(read_bytes(folder / "a"), "some text");
}

TEST(MappedFileTest, OutlivesTheFilesName) {
  TempFolder folder;
  write_bytes(folder / "a", "some text");
  const MappedFile file(folder / "a");
  std::filesystem::remove(folder / "a");
  EXPECT_EQ(file.text(), "some text");
}

TEST(MappedFileTest, RefusesWhatIsNoFile) {
  TempFolder folder;
  ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
  EXPECT_THROW_WITH(MappedFile(folder / "none"), "none: cannot be read: No such file");
  EXPECT_THROW_WITH(MappedFile(folder.path()), ": expected a file, got a folder");
  EXPECT_THROW_WITH(MappedFile(folder / "pipe"), "pipe: expected a regular file");
}

}  // namespace
}  // namespace rev::base
