#include "cuda/global_norm.h"

#include <algorithm>
#include <limits>
#include <memory>

#include "cuda/global_norm_math.h"
#include "cuda/support/kernel_test.h"
#include "cuda/support/numbers.h"

namespace rev::cuda {
namespace {

using namespace testing;

int64_t slices_of(int64_t n) { return (n + kNormSlice - 1) / kNormSlice; }

template <class T>
std::vector<float> square_sums(const std::vector<T>& x) {
  std::vector<float> sums;
  const auto n = static_cast<int64_t>(x.size());
  for (int64_t i = 0; i < n; i += kNormSlice) {
    sums.push_back(ordered_sum<kNormLanes>(std::min(kNormSlice, n - i), [&](int64_t j) {
      const float value = widen(x[static_cast<std::size_t>(i + j)]);
      return value * value;
    }));
  }
  return sums;
}

template <class T>
class SquareSumsTest : public KernelTest {};

using Types = ::testing::Types<float, BFloat16>;
TYPED_TEST_SUITE(SquareSumsTest, Types);

TYPED_TEST(SquareSumsTest, AddsUpEachSliceOfEachTensorInOrder) {
  using T = TypeParam;
  Random random(1);
  std::vector<std::vector<T>> tensors{
      random.reals<T>(2 * kNormSlice + 77, 3.0f), random.reals<T>(kNormSlice, 3.0f), {}};
  for (const int64_t n : kSizes) tensors.push_back(random.reals<T>(n, 3.0f));
  for (int64_t shift = 0; shift < 4; ++shift) {
    std::vector<std::vector<float>> got;
    for (unsigned schedule = 0; schedule < schedules(); ++schedule) {
      choose_schedule(schedule);
      std::vector<std::unique_ptr<Buffer<T>>> x;
      std::vector<std::unique_ptr<Buffer<float>>> sums;
      std::vector<NormTensor<T>> list;
      for (const auto& tensor : tensors) {
        const auto n = static_cast<int64_t>(tensor.size());
        x.push_back(std::make_unique<Buffer<T>>(tensor, shift));
        sums.push_back(std::make_unique<Buffer<float>>(slices_of(n)));
        list.push_back({x.back()->data(), n, sums.back()->data()});
      }
      launch_square_sums(list.data(), static_cast<int64_t>(list.size()), nullptr);
      for (std::size_t i = 0; i < tensors.size(); ++i) {
        EXPECT_TRUE(same_bits(sums[i]->values(), square_sums(tensors[i])))
            << "tensor " << i << ", shift " << shift << ", schedule " << schedule;
      }
    }
    choose_schedule(0);
  }
}

TYPED_TEST(SquareSumsTest, TakesListsOfSeveralTables) {
  using T = TypeParam;
  const auto values = Random(2).reals<T>(500, 3.0f);
  const Buffer<T> x(values);
  const Buffer<float> sums(250);
  std::vector<NormTensor<T>> list;
  std::vector<float> want;
  for (int64_t i = 0; i < 250; ++i) {  // tensors of two elements
    list.push_back({x.data() + 2 * i, 2, sums.data() + i});
    const auto at = values.begin() + 2 * i;
    want.push_back(square_sums(std::vector<T>(at, at + 2))[0]);
  }
  launch_square_sums(list.data(), 250, nullptr);
  EXPECT_TRUE(same_bits(sums.values(), want));
}

TYPED_TEST(SquareSumsTest, ABlockTakesSlicesOneAfterTheOther) {
  using T = TypeParam;
  const int64_t n = 3 * kNormSlice + 9;
  const auto values = Random(3).reals<T>(n, 3.0f);
  const FewBlocks few(1);
  const auto got = in_every_schedule([&] {
    const Buffer<T> x(values);
    const Buffer<float> sums(4);
    const NormTensor<T> tensor{x.data(), n, sums.data()};
    launch_square_sums(&tensor, 1, nullptr);
    return sums.values();
  });
  EXPECT_TRUE(same_bits(got, square_sums(values)));
}

class GlobalNormTest : public KernelTest {};

// As global_norm_kernel has it.
std::vector<float> norm_and_factor(const std::vector<float>& sums, float most) {
  std::vector<LongSum> running(kNormSums, LongSum{0, 0});
  for (std::size_t i = 0; i < sums.size(); ++i) {
    running[i % kNormSums] = add(running[i % kNormSums], {sums[i], 0});
  }
  for (std::size_t half = kNormSums / 2; half > 0; half /= 2) {
    for (std::size_t k = 0; k < half; ++k) running[k] = add(running[k], running[k + half]);
  }
  const float norm = norm_of(running[0]);
  return {norm, clip_factor(norm, most)};
}

TEST_F(GlobalNormTest, AddsUpTheSlicesInOrderAndLimitsTheNorm) {
  for (const int64_t slices : {0, 1, 255, 256, 257, 1023, 1024, 1025, 5000}) {
    for (const float most : {0.5f, 1e9f}) {
      auto sums = Random(static_cast<uint64_t>(slices)).reals<float>(slices, 100.0f);
      for (float& sum : sums) sum = std::abs(sum);
      const auto got = in_every_schedule([&] {
        const Buffer<float> from(sums), norm(1), factor(1);
        const Buffer<int32_t> flag(std::vector<int32_t>{7});
        launch_global_norm(norm.data(), factor.data(), flag.data(), from.data(), slices, most,
                           nullptr);
        EXPECT_EQ(flag.values()[0], 7);
        return std::vector<float>{norm.values()[0], factor.values()[0]};
      });
      EXPECT_TRUE(same_bits(got, norm_and_factor(sums, most))) << slices << " " << most;
    }
  }
}

TEST_F(GlobalNormTest, SetsTheFlagWhereTheNormIsNotFinite) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (const float odd : {kInfinity, std::numeric_limits<float>::quiet_NaN()}) {
    std::vector<float> sums(300, 1.0f);
    sums[299] = odd;
    const Buffer<float> from(sums), norm(1), factor(1);
    const Buffer<int32_t> flag(std::vector<int32_t>{0});
    launch_global_norm(norm.data(), factor.data(), flag.data(), from.data(), 300, 1.0f, nullptr);
    EXPECT_EQ(flag.values()[0], 1);
    EXPECT_EQ(factor.values()[0], 1);
    EXPECT_EQ(norm.values()[0] == kInfinity, odd == kInfinity);
    EXPECT_FALSE(norm.values()[0] < kInfinity);
    launch_global_norm(norm.data(), factor.data(), nullptr, from.data(), 300, 1.0f, nullptr);
  }
}

}  // namespace
}  // namespace rev::cuda
