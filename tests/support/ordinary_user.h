#pragma once

#include <unistd.h>

namespace rev::support {

/// Where tests run as root, whom no permission stops, acts as an ordinary user for a scope.
class OrdinaryUser {
 public:
  OrdinaryUser() : was_root_(::geteuid() == 0) { became_ = !was_root_ || ::seteuid(kNobody) == 0; }
  ~OrdinaryUser() {
    if (was_root_ && became_) became_ = ::seteuid(0) == 0;
  }
  OrdinaryUser(const OrdinaryUser&) = delete;
  OrdinaryUser& operator=(const OrdinaryUser&) = delete;

  bool became() const { return became_; }

 private:
  static constexpr uid_t kNobody = 65534;
  bool was_root_;
  bool became_;
};

}  // namespace rev::support
