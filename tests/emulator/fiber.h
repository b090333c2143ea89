// A stack to run on: what a thread of a kernel is here.
#pragma once

#include <cstddef>

namespace rev::emulator {

/// A function that runs on a stack of its own, piece by piece.
///
/// AddressSanitizer is told of each change of stacks. At most one fiber runs at a time, and a fiber
/// enters no other.
class Fiber {
 public:
  static constexpr std::size_t kStackBytes = 128 << 10;

  /// Runs `body` on the stack that starts at `stack`; body never returns.
  Fiber(char* stack, void (*body)());

  /// Runs the body on from where it left off, until it calls `leave`.
  void enter();

  /// From within the body: returns from `enter`.
  void leave();

  /// Forgets where the body left off: it starts anew.
  void restart();

 private:
  char* stack_;
  void (*body_)();
  void* top_;  // the stack pointer while it does not run
};

/// Memory for the stacks of fibers, each above a page that may not be touched: a kernel that needs
/// more than its stack stops there.
class Stacks {
 public:
  explicit Stacks(std::size_t count);
  ~Stacks();
  Stacks(const Stacks&) = delete;
  Stacks& operator=(const Stacks&) = delete;

  char* stack(std::size_t i) const;
  bool contains(const void* address) const;

 private:
  char* memory_;
  std::size_t bytes_;
};

}  // namespace rev::emulator
