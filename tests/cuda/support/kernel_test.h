// What tests of kernels have in common. The same tests run on the emulator and on a GPU.
#pragma once

#include <cstddef>
#include <cstdint>
#include <gtest/gtest.h>
#include <ostream>
#include <string>

#include "cuda/support/buffer.h"
#include "cuda/support/device.h"
#include "cuda/support/same_bits.h"

namespace rev::cuda::testing {

/// Base of test suites: their tests are skipped where kernels cannot run.
class KernelTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::string reason = missing_device();
    if (!reason.empty()) GTEST_SKIP() << reason;
  }
};

/// What `body` returns (a vector, or a tuple of vectors), after running it in every order of
/// threads, and holding the others' results to the first's, bit by bit.
template <class Body>
auto in_every_schedule(const Body& body) {
  choose_schedule(0);
  const auto first = body();
  for (unsigned schedule = 1; schedule < schedules(); ++schedule) {
    choose_schedule(schedule);
    EXPECT_TRUE(same_bits(body(), first)) << "schedule " << schedule << " against schedule 0";
  }
  choose_schedule(0);
  return first;
}

/// While it lives, launches get at most this many blocks: so that kernels which stride over what is
/// beyond their blocks do so for small sizes.
class FewBlocks {
 public:
  explicit FewBlocks(unsigned most) { limit_blocks(most); }
  ~FewBlocks() { limit_blocks(0); }
  FewBlocks(const FewBlocks&) = delete;
  FewBlocks& operator=(const FewBlocks&) = delete;
};

/// Where the buffers of a launch start: `by` elements after a boundary of 16 bytes, all of them or
/// one alone. Of a kernel's pointers each must once be the only one that forbids 128-bit accesses.
struct Shifts {
  int64_t by;
  int only;  ///< the number of that buffer; -1: all

  Shifts(int64_t elements, int number = -1) : by(elements), only(number) {}

  /// Of buffer `number`.
  int64_t operator()(int number) const { return only < 0 || only == number ? by : 0; }
};
inline std::ostream& operator<<(std::ostream& stream, const Shifts& shift) {
  stream << "shift " << shift.by;
  return shift.only < 0 ? stream : stream << " of buffer " << shift.only;
}

/// Sizes around those of a warp, a block of 256 threads and four blocks.
constexpr int64_t kSizes[] = {1, 31, 32, 33, 257, 1023, 1024, 1025};

struct Size {
  int64_t rows, width;

  std::size_t count() const { return static_cast<std::size_t>(rows * width); }
};
inline std::ostream& operator<<(std::ostream& stream, const Size& size) {
  return stream << size.rows << " x " << size.width;
}

/// Widths around a warp's reach, with one row, rows that do not fill a block, and rows that do.
constexpr Size kRowSizes[] = {{1, 1},   {7, 3},   {9, 31},  {8, 32},   {3, 33},   {1, 128},
                              {17, 36}, {2, 257}, {5, 260}, {2, 1023}, {3, 1024}, {1, 1025}};

}  // namespace rev::cuda::testing
