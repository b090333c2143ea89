#include "cuda/dispatch.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include "cuda/sum_math.h"
#include "cuda/support/kernel_test.h"
#include "cuda/support/numbers.h"

namespace rev::cuda {
namespace {

using namespace testing;

class DispatchTest : public KernelTest {};

std::size_t at(int64_t i) { return static_cast<std::size_t>(i); }

struct Sorted {
  std::vector<int32_t> offsets, order, rows;
};

Sorted sort_by_expert(const std::vector<int32_t>& experts, int n_experts) {
  Sorted s;
  s.order.resize(experts.size());
  std::iota(s.order.begin(), s.order.end(), 0);
  std::stable_sort(s.order.begin(), s.order.end(),
                   [&](int32_t a, int32_t b) { return experts[at(a)] < experts[at(b)]; });
  s.rows.resize(experts.size());
  for (std::size_t row = 0; row < s.order.size(); ++row) {
    s.rows[at(s.order[row])] = static_cast<int32_t>(row);
  }
  for (int e = 0; e <= n_experts; ++e) {
    s.offsets.push_back(static_cast<int32_t>(
        std::count_if(experts.begin(), experts.end(), [&](int32_t x) { return x < e; })));
  }
  return s;
}

void expect_sorted(const std::vector<int32_t>& experts, int n_experts) {
  const auto slots = static_cast<int64_t>(experts.size());
  const Sorted want = sort_by_expert(experts, n_experts);
  const auto got = in_every_schedule([&] {
    const Buffer<int32_t> e(experts), scratch(sort_scratch(slots, n_experts));
    const Buffer<int32_t> offsets(n_experts + 1), order(slots), rows(slots);
    launch_sort_by_expert(offsets.data(), order.data(), rows.data(), scratch.data(), e.data(),
                          slots, n_experts, nullptr);
    return std::tuple(offsets.values(), order.values(), rows.values());
  });
  EXPECT_TRUE(same_bits(got, std::tuple(want.offsets, want.order, want.rows)))
      << slots << " slots, " << n_experts << " experts";
}

TEST_F(DispatchTest, SlotsAreSortedByExpertAndKeepTheirOrder) {
  // Slots around a warp, a warp's stretch and a block's tile.
  constexpr struct {
    int64_t slots;
    int n_experts;
  } kSorts[] = {{1, 1},    {1, 512},  {31, 2},    {32, 31},    {33, 33},
                {255, 64}, {257, 60}, {2047, 17}, {2049, 512}, {2048, 257}};
  for (const auto& [slots, n_experts] : kSorts) {
    expect_sorted(Random(1).integers(slots, 0, n_experts), n_experts);
  }
}

TEST_F(DispatchTest, ManyTilesAreSorted) {
  // More than the 32 that a warp places at a time.
  expect_sorted(Random(1).integers(33 * 2048 + 5, 0, 3), 3);
}

TEST_F(DispatchTest, ABlockSortsTilesOneAfterTheOther) {
  const FewBlocks few(1);  // which places the slots of eight experts
  expect_sorted(Random(3).integers(3 * 2048 + 5, 0, 8), 8);
}

TEST_F(DispatchTest, SlotsThatFavourExpertsAreSorted) {
  constexpr int64_t kSlots = 2100;
  expect_sorted(std::vector<int32_t>(kSlots, 40), 41);
  std::vector<int32_t> falling;
  for (int64_t i = 0; i < kSlots; ++i) falling.push_back(static_cast<int32_t>((kSlots - i) / 60));
  expect_sorted(falling, 36);
}

TEST_F(DispatchTest, ExpertsThatDoNotExistCountAsTheNearest) {
  constexpr int32_t kMost = std::numeric_limits<int32_t>::max();
  std::vector<int32_t> given = Random(2).integers(300, -2, 9);
  given[17] = kMost;
  given[18] = -kMost - 1;
  given[19] = 512;
  std::vector<int32_t> experts = given;
  for (int32_t& e : experts) e = std::clamp(e, 0, 6);
  const Sorted want = sort_by_expert(experts, 7);
  const auto got = in_every_schedule([&] {
    const Buffer<int32_t> e(given), scratch(sort_scratch(300, 7)), offsets(8), order(300),
        rows(300);
    launch_sort_by_expert(offsets.data(), order.data(), rows.data(), scratch.data(), e.data(), 300,
                          7, nullptr);
    return std::tuple(offsets.values(), order.values(), rows.values());
  });
  EXPECT_TRUE(same_bits(got, std::tuple(want.offsets, want.order, want.rows)));
}

TEST_F(DispatchTest, WithoutSlotsEveryExpertHasNoRows) {
  const Buffer<int32_t> none(0), offsets(5), scratch(sort_scratch(0, 4));
  launch_sort_by_expert(offsets.data(), none.data(), none.data(), scratch.data(), none.data(), 0, 4,
                        nullptr);
  EXPECT_EQ(offsets.values(), std::vector<int32_t>(5, 0));
}

struct Case {
  int64_t tokens;
  int chosen;
  int64_t width;
};

const Case kCases[] = {{1, 1, 1},  {7, 2, 3},   {9, 8, 31},  {2, 16, 32},  {5, 3, 33},
                       {9, 2, 36}, {1, 4, 257}, {3, 3, 260}, {1, 2, 1023}, {1, 8, 1032}};

std::ostream& operator<<(std::ostream& out, const Case& c) {
  return out << c.tokens << " tokens, " << c.chosen << " chosen, width " << c.width;
}

// Calls body(F{}, case, sorted slots, shift) for every type, case and alignment, of three buffers.
template <class Body>
void for_cases(const Body& body) {
  const auto run = [&](const Case& c, Shifts shift) {
    const Sorted sorted = sort_by_expert(Random(1).integers(c.tokens * c.chosen, 0, 5), 5);
    body(float{}, c, sorted, shift);
    body(BFloat16{}, c, sorted, shift);
  };
  for (const Case& c : kCases) {
    for (const int64_t shift : {0, 1}) run(c, shift);
  }
  for (int only = 0; only < 3; ++only) run({3, 2, 40}, {1, only});
  for (const unsigned blocks : {1u, 2u}) {
    const FewBlocks few(blocks);
    for (const int64_t width : {33, 40}) run({51, 2, width}, 0);
  }
}

TEST_F(DispatchTest, DispatchCopiesATokenToEachOfItsExperts) {
  for_cases([](auto type, const Case& c, const Sorted& sorted, Shifts shift) {
    using F = decltype(type);
    const auto x = Random(2).reals<F>(c.tokens * c.width, 3.0f);
    std::vector<F> want;
    for (const int32_t slot : sorted.order) {
      const auto row = x.begin() + slot / c.chosen * c.width;
      want.insert(want.end(), row, row + c.width);
    }
    const auto got = in_every_schedule([&] {
      const Buffer<F> from(x, shift(0)), to(c.tokens * c.chosen * c.width, shift(1));
      const Buffer<int32_t> order(sorted.order);
      launch_dispatch(to.data(), from.data(), order.data(), {c.tokens, c.chosen, c.width}, nullptr);
      return to.values();
    });
    EXPECT_TRUE(same_bits(got, want)) << c << ", " << shift;
  });
}

TEST_F(DispatchTest, CombineSumsATokensRowsInTheOrderOfItsSlots) {
  for_cases([](auto type, const Case& c, const Sorted& sorted, Shifts shift) {
    using F = decltype(type);
    const int64_t slots = c.tokens * c.chosen;
    const auto x = Random(2).reals<F>(slots * c.width, 3.0f);
    const auto weights = Random(3).reals<float>(slots, 1.0f);
    for (const bool weighted : {false, true}) {
      std::vector<F> want;
      for (int64_t token = 0; token < c.tokens; ++token) {
        for (int64_t column = 0; column < c.width; ++column) {
          float sum = 0;
          for (int j = 0; j < c.chosen; ++j) {
            const std::size_t slot = at(token * c.chosen + j);
            const float value = widen(x[at(sorted.rows[slot] * c.width + column)]);
            sum += weighted ? weights[slot] * value : value;
          }
          want.push_back(narrow<F>(sum));
        }
      }
      const auto got = in_every_schedule([&] {
        const Buffer<F> from(x, shift(0)), to(c.tokens * c.width, shift(1));
        const Buffer<float> w(weights);
        const Buffer<int32_t> rows(sorted.rows);
        launch_combine(to.data(), from.data(), weighted ? w.data() : nullptr, rows.data(),
                       {c.tokens, c.chosen, c.width}, nullptr);
        return to.values();
      });
      EXPECT_TRUE(same_bits(got, want)) << c << ", " << shift << " weighted " << weighted;
    }
  });
}

TEST_F(DispatchTest, CombinesBackwardGoesToRowsAndWeights) {
  for_cases([](auto type, const Case& c, const Sorted& sorted, Shifts shift) {
    using F = decltype(type);
    const int64_t slots = c.tokens * c.chosen;
    const auto dy = Random(2).reals<F>(c.tokens * c.width, 3.0f);
    const auto x = Random(3).reals<F>(slots * c.width, 3.0f);
    const auto weights = Random(4).reals<float>(slots, 1.0f);
    std::vector<F> dx;
    std::vector<float> dweights(at(slots));
    for (int64_t row = 0; row < slots; ++row) {
      const int32_t slot = sorted.order[at(row)];
      const F* gradient = dy.data() + slot / c.chosen * c.width;
      for (int64_t i = 0; i < c.width; ++i) {
        dx.push_back(narrow<F>(weights[at(slot)] * widen(gradient[i])));
      }
      dweights[at(slot)] = ordered_sum<32>(
          c.width, [&](int64_t i) { return widen(gradient[i]) * widen(x[at(row * c.width + i)]); });
    }
    const auto got = in_every_schedule([&] {
      const Buffer<F> gradient(dy, shift(0)), value(x, shift(1)), to(slots * c.width, shift(2));
      const Buffer<float> w(weights), dw(slots);
      const Buffer<int32_t> order(sorted.order);
      launch_combine_backward(to.data(), dw.data(), gradient.data(), value.data(), w.data(),
                              order.data(), {c.tokens, c.chosen, c.width}, nullptr);
      return std::tuple(to.values(), dw.values());
    });
    EXPECT_TRUE(same_bits(got, std::tuple(dx, dweights))) << c << ", " << shift;
  });
}

TEST_F(DispatchTest, NoTokensAndNoWidthAreNoWork) {
  const Buffer<float> none(0), weights(std::vector<float>{1.0f, 2.0f}), dweights(2);
  const Buffer<int32_t> slots(std::vector<int32_t>{1, 0});
  for (const Dispatch size : {Dispatch{0, 2, 8}, Dispatch{1, 2, 0}}) {
    launch_dispatch(none.data(), none.data(), slots.data(), size, nullptr);
    launch_combine(none.data(), none.data(), weights.data(), slots.data(), size, nullptr);
    launch_combine_backward(none.data(), dweights.data(), none.data(), none.data(), weights.data(),
                            slots.data(), size, nullptr);
  }
  EXPECT_EQ(dweights.values(), std::vector<float>(2, 0.0f));  // sums of nothing
}

}  // namespace
}  // namespace rev::cuda
