// Places in a kernel's source.
#pragma once

#include <string>

namespace rev::emulator {

/// A line of a kernel's source.
struct Site {
  const char* file = "";
  int line = 0;

  /// A call, as GCC takes the place of the outer call only for arguments of a call.
  static constexpr Site at(const char* file, int line) { return {file, line}; }
};

bool operator==(const Site& a, const Site& b);

/// "file:line"
std::string to_string(const Site& site);

/// The last parameter of every function by which threads wait for each other: where it is called.
#define REV_SITE \
  ::rev::emulator::Site site = ::rev::emulator::Site::at(__builtin_FILE(), __builtin_LINE())

}  // namespace rev::emulator
