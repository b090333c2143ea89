#include "rev/base/remove_folder.h"

#include <filesystem>
#include <gtest/gtest.h>

#include "support/ordinary_user.h"
#include "support/temp_folder.h"
#include "support/throws.h"

namespace rev::base {
namespace {

namespace fs = std::filesystem;
using support::TempFolder;
using support::write_bytes;

TEST(RemoveFolderTest, RemovesAllThatIsInIt) {
  TempFolder folder;
  write_bytes(folder / "a/b/c/file", "x");
  write_bytes(folder / "a/file", "x");
  fs::create_directories(folder / "a/empty");
  remove_folder(folder / "a");
  EXPECT_TRUE(fs::is_empty(folder.path()));
}

TEST(RemoveFolderTest, DoesNotFollowLinks) {
  TempFolder folder;
  write_bytes(folder / "kept/file", "x");
  fs::create_directory(folder / "a");
  fs::create_directory_symlink(folder / "kept", folder / "a/link");
  fs::create_symlink("nowhere", folder / "a/broken");
  remove_folder(folder / "a");
  EXPECT_FALSE(fs::exists(folder / "a"));
  EXPECT_TRUE(fs::exists(folder / "kept/file"));
}

TEST(RemoveFolderTest, RemovesAFileAndLetsNothingBe) {
  TempFolder folder;
  write_bytes(folder / "a", "x");
  remove_folder(folder / "a");
  remove_folder(folder / "a");
  EXPECT_FALSE(fs::exists(folder / "a"));
}

TEST(RemoveFolderTest, NamesWhatCannotBeRemoved) {
  TempFolder folder;
  write_bytes(folder / "a/file", "x");
  fs::permissions(folder.path(), fs::perms(0755));
  fs::permissions(folder / "a", fs::perms(0555));
  {
    const support::OrdinaryUser user;
    if (!user.became()) GTEST_SKIP() << "cannot act as an ordinary user";
    EXPECT_THROW_WITH(remove_folder(folder / "a"), "a/file: cannot be removed: Permission denied");
  }
  fs::permissions(folder / "a", fs::perms(0755));
}

}  // namespace
}  // namespace rev::base
