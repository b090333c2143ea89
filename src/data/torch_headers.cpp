#include "rev/data/torch_headers.h"

#include <c10/util/Exception.h>
#include <dlfcn.h>
#include <link.h>
#include <system_error>

namespace rev::data {

namespace fs = std::filesystem;

fs::path torch_headers_dir() {
  void* c10 = ::dlopen("libc10.so", RTLD_LAZY | RTLD_NOLOAD);  // a handle of what is loaded already
  TORCH_CHECK(c10 != nullptr, "torch_headers_dir: libc10.so is not loaded");
  const link_map* library = nullptr;
  const bool known = ::dlinfo(c10, RTLD_DI_LINKMAP, &library) == 0;
  ::dlclose(c10);
  TORCH_CHECK(known, "torch_headers_dir: libc10.so has no path");
  std::error_code ignored;
  const fs::path folder = fs::canonical(library->l_name, ignored).parent_path();
  const fs::path include = folder.parent_path() / "include";
  TORCH_CHECK(fs::is_directory(include / "ATen", ignored), "torch_headers_dir: LibTorch in ",
              folder.string(), " has no headers in ", include.string());
  return include;
}

}  // namespace rev::data
