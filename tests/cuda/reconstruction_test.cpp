#include "cuda/reconstruction.h"

#include <algorithm>
#include <limits>
#include <set>

#include "cuda/reconstruction_math.h"
#include "cuda/support/kernel_test.h"
#include "cuda/support/numbers.h"

namespace rev::cuda {
namespace {

using namespace testing;

class ReconstructionTest : public KernelTest {};

constexpr auto kNone = static_cast<int64_t>(kNoRow);

std::vector<int64_t> empty_record() {
  std::vector<int64_t> record(kRowRecord, kNone);
  record[0] = record[1] = 0;
  return record;
}

// The record's meaning, as sets.
void add(std::vector<int64_t>& record, const std::vector<int64_t>& a,
         const std::vector<int64_t>& b) {
  std::set<int64_t> rows(record.begin() + 2, record.end());
  rows.erase(kNone);
  for (std::size_t i = 0; i < a.size(); ++i) {
    ++record[0];
    if (a[i] == b[i]) continue;
    ++record[1];
    rows.insert(static_cast<int64_t>(i));
  }
  std::fill(record.begin() + 2, record.end(), kNone);
  auto place = record.begin() + 2;
  for (const int64_t row : rows) {
    if (place == record.end()) break;
    *place++ = row;
  }
}

// Row sums that differ at the rows that `differs` says, in one bit: the lowest or the highest.
template <class Differs>
std::vector<int64_t> changed(std::vector<int64_t> sums, const Differs& differs) {
  for (std::size_t i = 0; i < sums.size(); ++i) {
    if (differs(static_cast<int64_t>(i))) sums[i] ^= i % 2 == 0 ? 1 : int64_t{1} << 62;
  }
  return sums;
}

std::vector<int64_t> sums_of(int64_t n) {
  Random random(3);
  std::vector<int64_t> sums(static_cast<std::size_t>(n));
  for (int64_t& sum : sums) {
    sum = random.integer(std::numeric_limits<int64_t>::min() / 2,
                         std::numeric_limits<int64_t>::max() / 2);
  }
  return sums;
}

TEST_F(ReconstructionTest, ARecordCountsAndNamesTheRowsThatDiffer) {
  const std::vector<bool (*)(int64_t)> patterns = {
      [](int64_t) { return false; }, [](int64_t) { return true; },
      [](int64_t i) { return i % 97 == 13; }, [](int64_t i) { return i >= 250 && i < 259; },
      [](int64_t i) { return i == 1022; }};
  for (const int64_t n : {1, 8, 31, 33, 257, 1025, 3000}) {
    const auto sums = sums_of(n);
    for (std::size_t p = 0; p < patterns.size(); ++p) {
      const auto rebuilt = changed(sums, patterns[p]);
      auto want = empty_record();
      add(want, sums, rebuilt);
      for (const unsigned most_blocks : {kMostReducers, 2u}) {
        const auto got = in_every_schedule([&] {
          const Buffer<int64_t> a(sums), b(rebuilt), record(empty_record());
          launch_compare_rows(record.data(), a.data(), b.data(), n, nullptr, most_blocks);
          return record.values();
        });
        EXPECT_TRUE(same_bits(got, want)) << n << " rows, pattern " << p;
      }
    }
  }
}

TEST_F(ReconstructionTest, ComparisonsGatherInARecordWhateverTheirOrder) {
  const int64_t n = 700;
  const auto sums = sums_of(n);
  const auto late = changed(sums, [](int64_t i) { return i % 50 == 49; });
  const auto early = changed(sums, [](int64_t i) { return i % 100 == 99 || i == 5 || i == 6; });
  auto want = empty_record();
  add(want, sums, late);
  add(want, sums, early);
  for (const bool late_first : {true, false}) {
    const auto got = in_every_schedule([&] {
      const Buffer<int64_t> a(sums), b(late_first ? late : early), c(late_first ? early : late);
      const Buffer<int64_t> record(empty_record());
      launch_compare_rows(record.data(), a.data(), b.data(), n, nullptr);
      launch_compare_rows(record.data(), a.data(), c.data(), n, nullptr);
      return record.values();
    });
    EXPECT_TRUE(same_bits(got, want)) << late_first;
  }
}

TEST_F(ReconstructionTest, NoRowsLeaveARecordAsItIs) {
  const Buffer<int64_t> none(0), record(empty_record());
  launch_compare_rows(record.data(), none.data(), none.data(), 0, nullptr);
  EXPECT_TRUE(same_bits(record.values(), empty_record()));
}

// By plain loops over magnitudes.
std::vector<float> drift_of(const std::vector<float>& a, const std::vector<float>& b) {
  uint32_t apart = 0, largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    apart = std::max(apart, magnitude_bits(a[i] - b[i]));
    largest = std::max(largest, magnitude_bits(a[i]));
  }
  std::vector<float> record(2);
  memcpy(&record[0], &apart, sizeof apart);
  memcpy(&record[1], &largest, sizeof largest);
  return record;
}

std::vector<float> launched_drift(const std::vector<float>& a, const std::vector<float>& b,
                                  const std::vector<float>& start, Shifts shift = 0,
                                  unsigned most_blocks = kMostReducers) {
  return in_every_schedule([&] {
    const Buffer<float> x(a, shift(0)), y(b, shift(1)), record(start);
    launch_drift(record.data(), x.data(), y.data(), static_cast<int64_t>(a.size()), nullptr,
                 most_blocks);
    return record.values();
  });
}

TEST_F(ReconstructionTest, DriftIsTheLargestDifferenceAndTheLargestState) {
  for (const int64_t n : kSizes) {
    for (int64_t shift = 0; shift < 4; ++shift) {
      Random random(5);
      const auto a = random.reals<float>(n, 3), b = random.reals<float>(n, 3);
      const auto got = launched_drift(a, b, {0, 0}, shift);
      EXPECT_TRUE(same_bits(got, drift_of(a, b))) << n << " shift " << shift;
    }
  }
}

TEST_F(ReconstructionTest, EitherPointerOfDriftMayBeTheOneThatIsNotAligned) {
  Random random(6);
  const auto a = random.reals<float>(64, 3), b = random.reals<float>(64, 3);
  for (const int only : {0, 1}) {
    EXPECT_TRUE(same_bits(launched_drift(a, b, {0, 0}, {1, only}), drift_of(a, b))) << only;
  }
}

TEST_F(ReconstructionTest, DriftFindsOneElementWhereverItIs) {
  for (const int64_t n : {3000, 3001}) {
    for (const int64_t at : {int64_t{0}, int64_t{31}, int64_t{1500}, n - 1}) {
      std::vector<float> a(static_cast<std::size_t>(n), 0.5f), b = a;
      b[static_cast<std::size_t>(at)] = -0.25f;
      for (const unsigned most_blocks : {kMostReducers, 2u}) {
        EXPECT_TRUE(same_bits(launched_drift(a, b, {0, 0}, 0, most_blocks), {0.75f, 0.5f}))
            << n << " at " << at;
      }
    }
  }
}

TEST_F(ReconstructionTest, DriftKeepsWhatIsLargerAndEveryNaN) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
  constexpr float kSmallest = std::numeric_limits<float>::denorm_min();
  const std::vector<float> a = {1, -2, 0, 3}, b = {1, -2, kSmallest, 3};
  EXPECT_TRUE(same_bits(launched_drift(a, b, {0, 0}), {kSmallest, 3}));
  EXPECT_TRUE(same_bits(launched_drift(a, b, {0.5f, 7}), {0.5f, 7}));
  EXPECT_TRUE(same_bits(launched_drift({-0.0f}, {0.0f}, {0, 0}), {0, 0}));
  EXPECT_TRUE(same_bits(launched_drift({1, kInfinity}, {1, 1}, {0, 0}), {kInfinity, kInfinity}));
  // A negative NaN with a payload, then numbers that must not push it out.
  const uint32_t bits = 0xffc01234u;
  float payload;
  memcpy(&payload, &bits, sizeof payload);
  const auto spoilt = launched_drift({1, payload, 2, kInfinity}, {1, 1, 2, 1}, {0, 0});
  EXPECT_TRUE(same_bits(spoilt, {kNaN, kNaN}));
  EXPECT_TRUE(same_bits(launched_drift(a, b, spoilt), {kNaN, kNaN}));
  EXPECT_TRUE(same_bits(launched_drift({kInfinity}, {kInfinity}, {0, 0}), {kNaN, kInfinity}));
}

}  // namespace
}  // namespace rev::cuda
