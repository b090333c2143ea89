#pragma once

#include <filesystem>

namespace rev::base {

/// Removes a folder and all that is in it, or a file; links are removed, not followed. A path that
/// does not exist is no error. Throws c10::Error naming the first entry that cannot be removed.
///
/// In place of `std::filesystem::remove_all`, which must not be called in a process that loads the
/// wheel's libtorch.so: that library exports a copy of its own, which takes precedence and, where
/// the system's C++ library is that of GCC 12 or older, calls a function that is not there.
void remove_folder(const std::filesystem::path& folder);

}  // namespace rev::base
