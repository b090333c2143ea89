#pragma once

#include <filesystem>

namespace rev::data {

/// The include folder of the LibTorch that this process runs with, found from where libc10 was
/// loaded.
///
/// Its headers (39 MB of C++ and CUDA in the wheel of 2.11) are text that every machine with this
/// library has: `open_tokens({torch_headers_dir()})` is what programs train on unless told
/// otherwise. Throws c10::Error where LibTorch is linked statically or came without headers.
std::filesystem::path torch_headers_dir();

}  // namespace rev::data
