#include "cuda/dropout.h"

#include <array>
#include <limits>

#include "cuda/philox_math.h"
#include "cuda/support/kernel_test.h"
#include "cuda/support/numbers.h"

namespace rev::cuda {
namespace {

using namespace testing;

class DropoutTest : public KernelTest {};

TEST(PhiloxTest, GivesThePublishedNumbers) {
  // Random123's kat_vectors: counter, key, result of philox4x32 with 10 rounds.
  struct Known {
    std::array<uint32_t, 4> counter;
    std::array<uint32_t, 2> key;
    std::array<uint32_t, 4> result;
  };
  const Known known[] = {
      {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u}},
      {{~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}, {0x408f276du, 0x41c83b0eu, 0xa20bc7c6u, 0x6d5451fdu}},
      {{0x243f6a88u, 0x85a308d3u, 0x13198a2eu, 0x03707344u},
       {0xa4093822u, 0x299f31d0u},
       {0xd16cfe09u, 0x94fdccebu, 0x5001e420u, 0x24126ea1u}}};
  for (const Known& k : known) {
    auto [x, y, z, w] = k.counter;
    philox4x32_10(x, y, z, w, k.key[0], k.key[1]);
    EXPECT_EQ((std::array<uint32_t, 4>{x, y, z, w}), k.result);
  }
}

TEST(PhiloxTest, TheCounterHoldsTheOffsetBelowTheGroup) {
  const auto numbers = [](uint64_t seed, uint64_t offset, uint64_t group) {
    std::array<uint32_t, 4> n{};
    philox_numbers(seed, offset, group, n[0], n[1], n[2], n[3]);
    return n;
  };
  const uint64_t block = 0x05a308d3243f6a88u;  // an offset counts to four of them
  uint32_t x = 0x243f6a88u, y = 0x05a308d3u, z = 0x13198a2eu, w = 0x03707344u;
  philox4x32_10(x, y, z, w, 0xa4093822u, 0x299f31d0u);
  EXPECT_EQ(numbers(0x299f31d0a4093822u, 4 * block, 0x0370734413198a2eu),
            (std::array<uint32_t, 4>{x, y, z, w}));
}

std::vector<uint32_t> numbers_of(int64_t n, uint64_t seed, uint64_t offset) {
  std::vector<uint32_t> numbers;
  for (int64_t group = 0; group < (n + 3) / 4; ++group) {
    uint32_t x, y, z, w;
    philox_numbers(seed, offset, static_cast<uint64_t>(group), x, y, z, w);
    numbers.insert(numbers.end(), {x, y, z, w});
  }
  return numbers;
}

constexpr uint64_t kSeed = 0x123456789abcdef0u, kOffset = 0x400000044u;
constexpr Kept kKept{0xb3333333u, 1 / 0.7f};

template <class T>
void expect_dropout(int64_t n, Shifts shift) {
  const auto x = Random(1).reals<T>(n, 3);
  const auto numbers = numbers_of(n, kSeed, kOffset);
  auto want = x;
  for (std::size_t i = 0; i < want.size(); ++i) {
    want[i] = narrow<T>(widen(x[i]) * (numbers[i] < kKept.threshold ? kKept.scale : 0.0f));
  }
  const auto got = in_every_schedule([&] {
    const Buffer<T> from(x, shift(0)), y(n, shift(1));
    launch_dropout(y.data(), from.data(), n, kKept, {kSeed, kOffset}, nullptr);
    return y.values();
  });
  EXPECT_TRUE(same_bits(got, want)) << n << ", " << shift;
  const Buffer<T> y(x, shift(0));  // in place
  launch_dropout(y.data(), y.data(), n, kKept, {kSeed, kOffset}, nullptr);
  EXPECT_TRUE(same_bits(y.values(), want)) << n << ", " << shift;
}

TEST_F(DropoutTest, KeepsElementsByTheirNumbers) {
  for (const int64_t n : kSizes) {
    for (int64_t shift = 0; shift < 4; ++shift) {
      expect_dropout<float>(n, shift);
      expect_dropout<BFloat16>(n, shift);
    }
  }
}

TEST_F(DropoutTest, EitherPointerMayBeTheOneThatIsNotAligned) {
  for (const int only : {0, 1}) {
    expect_dropout<float>(64, {1, only});
    expect_dropout<BFloat16>(64, {1, only});
  }
}

TEST_F(DropoutTest, ABlockTakesStretchesOneAfterTheOther) {
  const FewBlocks few(1);
  for (const int64_t shift : {0, 1}) {
    expect_dropout<float>(3 * 1024 + 5, shift);
    expect_dropout<BFloat16>(3 * 2048 + 5, shift);
  }
}

void expect_mask(int64_t n) {
  const auto numbers = numbers_of(n, kSeed, kOffset);
  std::vector<uint8_t> want;
  for (int64_t i = 0; i < n; ++i) {
    want.push_back(numbers[static_cast<std::size_t>(i)] < kKept.threshold ? 1 : 0);
  }
  for (int64_t shift = 0; shift < 4; ++shift) {
    const auto got = in_every_schedule([&] {
      const Buffer<uint8_t> mask(n, shift);
      launch_dropout_mask(mask.data(), n, kKept.threshold, {kSeed, kOffset}, nullptr);
      return mask.values();
    });
    EXPECT_TRUE(same_bits(got, want)) << n << " shift " << shift;
  }
}

TEST_F(DropoutTest, TheMaskIsTheSame) {
  for (const int64_t n : kSizes) expect_mask(n);
  const FewBlocks few(1);
  expect_mask(3 * 4096 + 5);
}

TEST_F(DropoutTest, AnOffsetInDeviceMemoryIsReadWhenTheKernelRunsAndAdded) {
  const int64_t n = 100;
  const std::vector<float> x(n, 1.0f);
  const auto by_value = [&](uint64_t seed, uint64_t offset) {
    const Buffer<float> from(x), y(n);
    launch_dropout(y.data(), from.data(), n, kKept, {seed, offset}, nullptr);
    return y.values();
  };
  const Buffer<int64_t> offset(std::vector<int64_t>{32});
  const Buffer<float> from(x), y(n);
  launch_dropout(y.data(), from.data(), n, kKept, {99, 8, offset.data()}, nullptr);
  EXPECT_TRUE(same_bits(y.values(), by_value(99, 40)));
  const Buffer<uint8_t> mask(n);
  launch_dropout_mask(mask.data(), n, kKept.threshold, {99, 8, offset.data()}, nullptr);
  const auto kept = y.values();
  for (std::size_t i = 0; i < kept.size(); ++i) EXPECT_EQ(mask.values()[i] != 0, kept[i] != 0);
  EXPECT_FALSE(same_bits(by_value(1, 0), by_value(1, 4)));
  EXPECT_FALSE(same_bits(by_value(1, 0), by_value(uint64_t{1} << 32, 0)));
}

TEST_F(DropoutTest, WhatIsNotFiniteIsNotANumberWhereItIsDropped) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const int64_t n = 64;
  const std::vector<float> x(n, -kInfinity);
  const auto numbers = numbers_of(n, kSeed, kOffset);
  const Buffer<float> from(x), y(n);
  launch_dropout(y.data(), from.data(), n, kKept, {kSeed, kOffset}, nullptr);
  const auto got = y.values();
  for (std::size_t i = 0; i < got.size(); ++i) {
    if (numbers[i] < kKept.threshold) {
      EXPECT_EQ(got[i], -kInfinity);
    } else {
      EXPECT_NE(got[i], got[i]);
    }
  }
}

}  // namespace
}  // namespace rev::cuda
