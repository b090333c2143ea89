// Arrays for kernels.
#pragma once

#include <cstdint>
#include <gtest/gtest.h>
#include <type_traits>
#include <vector>

#include "cuda/support/device.h"

namespace rev::cuda::testing {

/// Elements in the kernels' memory, exactly as many as are asked for: AddressSanitizer, or rubbish
/// around them that has changed, tells of an access beyond them.
///
/// They start `shift` elements after an address that is aligned to 16 bytes; with a shift of 1 to 3
/// a 128-bit access to the first element is an error.
template <class T>
class Buffer {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  /// n elements of rubbish: all bits are ones.
  explicit Buffer(int64_t n, int64_t shift = 0)
      : size_(static_cast<std::size_t>(n)),
        data_(static_cast<T*>(allocate(bytes(), static_cast<std::size_t>(shift) * sizeof(T)))) {}

  explicit Buffer(const std::vector<T>& values, int64_t shift = 0)
      : Buffer(static_cast<int64_t>(values.size()), shift) {
    copy_to_device(data_, values.data(), bytes());
  }

  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() { EXPECT_TRUE(release(data_)) << "a kernel wrote beyond a buffer"; }

  /// For kernels alone: it may lie on a GPU.
  T* data() const { return data_; }

  /// A copy of the elements, after the kernels that were launched.
  std::vector<T> values() const {
    std::vector<T> values(size_);
    copy_from_device(values.data(), data_, bytes());
    return values;
  }

 private:
  std::size_t bytes() const { return size_ * sizeof(T); }

  std::size_t size_;
  T* data_;
};

}  // namespace rev::cuda::testing
