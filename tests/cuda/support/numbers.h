// Numbers for tests, the same on every machine.
#pragma once

#include <cstdint>
#include <random>
#include <vector>

#include "cuda/bfloat16.h"

namespace rev::cuda::testing {

/// Random numbers that depend on the seed alone.
class Random {
 public:
  explicit Random(uint64_t seed) : bits_(seed) {}

  /// From low to high - 1.
  int64_t integer(int64_t low, int64_t high) {
    return low + static_cast<int64_t>(bits_() % static_cast<uint64_t>(high - low));
  }

  /// From -limit to limit.
  float real(float limit) {
    return limit *
           static_cast<float>(static_cast<double>(integer(-(1 << 24), 1 << 24)) / (1 << 24));
  }

  std::vector<int32_t> integers(int64_t n, int64_t low, int64_t high) {
    std::vector<int32_t> values(static_cast<std::size_t>(n));
    for (int32_t& value : values) value = static_cast<int32_t>(integer(low, high));
    return values;
  }

  /// F: float or BFloat16.
  template <class F>
  std::vector<F> reals(int64_t n, float limit) {
    std::vector<F> values(static_cast<std::size_t>(n));
    for (F& value : values) value = narrow<F>(real(limit));
    return values;
  }

 private:
  std::mt19937_64 bits_;
};

/// The values rounded to T, float or BFloat16.
template <class T>
std::vector<T> as(const std::vector<float>& values) {
  std::vector<T> narrowed;
  for (const float value : values) narrowed.push_back(narrow<T>(value));
  return narrowed;
}

}  // namespace rev::cuda::testing
