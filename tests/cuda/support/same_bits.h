// Equality of bits: NaN equals itself, and 0 differs from -0.
#pragma once

#include <cstring>
#include <gtest/gtest.h>
#include <limits>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

namespace rev::cuda::testing {

/// The bytes of a value as a number in base 16, the most significant first.
template <class T>
std::string hex(const T& value) {
  unsigned char bytes[sizeof(T)];
  std::memcpy(bytes, &value, sizeof value);
  std::string text = "0x";
  for (std::size_t i = sizeof(T); i-- > 0;) {
    text += "0123456789abcdef"[bytes[i] >> 4];
    text += "0123456789abcdef"[bytes[i] & 15];
  }
  return text;
}

/// Whether both hold the same bits; if not, where they differ first.
template <class T>
::testing::AssertionResult same_bits(const std::vector<T>& got, const std::vector<T>& want) {
  static_assert(std::is_trivially_copyable_v<T>);
  if (got.size() != want.size()) {
    return ::testing::AssertionFailure() << got.size() << " elements, not " << want.size();
  }
  for (std::size_t i = 0; i < got.size(); ++i) {
    if (std::memcmp(&got[i], &want[i], sizeof(T)) == 0) continue;
    auto failure = ::testing::AssertionFailure() << "element " << i << " of " << got.size() << ": ";
    if constexpr (std::is_arithmetic_v<T>) failure << got[i] << ", not " << want[i] << "; ";
    return failure << hex(got[i]) << ", not " << hex(want[i]);
  }
  return ::testing::AssertionSuccess();
}

/// The same for several vectors at a time.
template <class... T>
::testing::AssertionResult same_bits(const std::tuple<std::vector<T>...>& got,
                                     const std::tuple<std::vector<T>...>& want) {
  auto result = ::testing::AssertionSuccess();
  int number = 0;
  const auto compare = [&](const auto& g, const auto& w) {
    const auto same = same_bits(g, w);
    if (!same && result) {
      result = ::testing::AssertionFailure() << "vector " << number << ", " << same.message();
    }
    ++number;
  };
  std::apply(
      [&](const auto&... g) { std::apply([&](const auto&... w) { (compare(g, w), ...); }, want); },
      got);
  return result;
}

/// The values with one NaN for all, for where it is the processor's choice which.
template <class T>
std::vector<T> same_nans(std::vector<T> values) {
  if constexpr (std::is_floating_point_v<T>) {
    for (T& v : values) v = v == v ? v : std::numeric_limits<T>::quiet_NaN();
  }
  return values;
}

}  // namespace rev::cuda::testing
