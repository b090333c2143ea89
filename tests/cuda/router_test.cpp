#include "cuda/router.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include "cuda/router_math.h"
#include "cuda/sum_math.h"
#include "cuda/support/kernel_test.h"
#include "cuda/support/numbers.h"

namespace rev::cuda {
namespace {

using namespace testing;

class RouterTest : public KernelTest {};

struct Case {
  int64_t tokens;
  int experts, chosen;
};

// Numbers of experts around those for which kernels are made, and all that matter of chosen ones.
const Case kCases[] = {{1, 1, 1},   {5, 2, 2},    {3, 31, 4},  {9, 32, 8},  {3, 33, 1},
                       {3, 60, 4},  {2, 64, 16},  {2, 65, 6},  {3, 128, 8}, {2, 129, 3},
                       {2, 256, 8}, {2, 257, 10}, {2, 511, 4}, {2, 512, 16}};

std::ostream& operator<<(std::ostream& out, const Case& c) {
  return out << c.tokens << " tokens, " << c.chosen << " of " << c.experts;
}

std::size_t at(int64_t i) { return static_cast<std::size_t>(i); }

template <class F>
float greatest_of(const F* row, int n) {
  uint32_t key = 0;
  for (int e = 0; e < n; ++e) key = std::max(key, score_key(widen(row[e])));
  return key_score(key);
}

template <class F>
float sum_of(const F* row, int n, float greatest) {
  return ordered_sum<kRouterLanes>(
      n, [&](int64_t e) { return router_power(widen(row[e]), greatest); });
}

// The k greatest of a row, by sorting.
template <class F>
std::vector<int32_t> choose(const F* row, int n, int k) {
  std::vector<int32_t> experts(at(n));
  std::iota(experts.begin(), experts.end(), 0);
  std::stable_sort(experts.begin(), experts.end(), [&](int32_t a, int32_t b) {
    return score_key(widen(row[a])) > score_key(widen(row[b]));
  });
  experts.resize(at(k));
  return experts;
}

template <class F>
std::vector<float> weights_of(const F* row, int n, const std::vector<int32_t>& experts,
                              bool renormalise) {
  const float greatest = greatest_of(row, n), sum = sum_of(row, n, greatest);
  std::vector<float> weights;
  for (const int32_t e : experts) {
    weights.push_back(router_share(router_power(widen(row[e]), greatest), sum));
  }
  float total = 0;
  for (const float weight : weights) total += weight;
  for (float& weight : weights) weight = renormalise ? router_share(weight, total) : weight;
  return weights;
}

template <class F>
std::vector<F> gradients_of(const F* row, int n, const int32_t* experts, const float* weights,
                            const float* dweights, int k, bool renormalise) {
  const float greatest = greatest_of(row, n), sum = sum_of(row, n, greatest);
  float inner = 0;
  for (int j = 0; j < k; ++j) inner += weights[j] * dweights[j];
  std::vector<F> gradients;
  for (int e = 0; e < n; ++e) {
    const float p = renormalise ? 0.0f : router_share(router_power(widen(row[e]), greatest), sum);
    gradients.push_back(narrow<F>(renormalise ? 0.0f : router_gradient(p, 0.0f, inner)));
  }
  for (int j = 0; j < k; ++j) {
    gradients[at(experts[j])] = narrow<F>(router_gradient(weights[j], dweights[j], inner));
  }
  return gradients;
}

template <class F>
void expect_routes(const std::vector<F>& scores, const Case& c) {
  for (const bool renormalise : {false, true}) {
    const Router router = {c.tokens, c.experts, c.chosen, renormalise};
    const int64_t slots = c.tokens * c.chosen;
    const auto dweights = Random(2).reals<float>(slots, 2.0f);
    std::vector<int32_t> experts;
    std::vector<float> weights;
    std::vector<F> dscores;
    for (int64_t t = 0; t < c.tokens; ++t) {
      const F* row = scores.data() + t * c.experts;
      const auto chosen = choose(row, c.experts, c.chosen);
      const auto w = weights_of(row, c.experts, chosen, renormalise);
      const auto d = gradients_of(row, c.experts, chosen.data(), w.data(),
                                  dweights.data() + t * c.chosen, c.chosen, renormalise);
      experts.insert(experts.end(), chosen.begin(), chosen.end());
      weights.insert(weights.end(), w.begin(), w.end());
      dscores.insert(dscores.end(), d.begin(), d.end());
    }
    const auto got = in_every_schedule([&] {
      const Buffer<F> s(scores), ds(c.tokens * c.experts);
      const Buffer<int32_t> e(slots);
      const Buffer<float> w(slots), again(slots), dw(dweights);
      launch_route(e.data(), w.data(), s.data(), router, nullptr);
      launch_route_weights(again.data(), s.data(), e.data(), router, nullptr);
      launch_route_backward(ds.data(), s.data(), e.data(), w.data(), dw.data(), router, nullptr);
      return std::tuple(e.values(), w.values(), again.values(), ds.values());
    });
    EXPECT_TRUE(same_bits(got, std::tuple(experts, weights, weights, dscores)))
        << c << " renormalise " << renormalise;
  }
}

TEST_F(RouterTest, ChoosesTheGreatestAndWeighsThem) {
  for (const Case& c : kCases) {
    expect_routes(Random(1).reals<float>(c.tokens * c.experts, 8.0f), c);
    // Of 256 bfloat16 many are equal.
    expect_routes(Random(1).reals<BFloat16>(c.tokens * c.experts, 1.0f), c);
  }
}

TEST_F(RouterTest, BlocksTakeTokensOneAfterTheOther) {
  for (const unsigned blocks : {1u, 2u}) {
    const FewBlocks few(blocks);
    expect_routes(Random(7).reals<float>(51 * 33, 8.0f), {51, 33, 4});
  }
}

TEST_F(RouterTest, OfEqualScoresTheLowerExpertIsTaken) {
  for (const Case& c : kCases) {
    std::vector<float> scores(at(c.tokens * c.experts));
    for (std::size_t i = 0; i < scores.size(); ++i) scores[i] = i % 2 == 0 ? -0.0f : 0.0f;
    expect_routes(scores, c);
  }
}

TEST_F(RouterTest, ScoresWithoutAValueOrALimitGiveTheSameBits) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (const Case& c : {Case{2, 1, 1}, Case{4, 33, 4}, Case{3, 130, 3}}) {
    for (const float odd : {std::nanf(""), -std::nanf(""), kInfinity, -kInfinity, 1e-45f, 3e38f}) {
      auto scores = Random(3).reals<float>(c.tokens * c.experts, 4.0f);
      Random random(4);
      for (int64_t t = 0; t < c.tokens; ++t) {
        scores[at(t * c.experts + random.integer(0, c.experts))] = odd;
        scores[at(random.integer(0, c.tokens * c.experts))] = odd;
      }
      expect_routes(scores, c);
    }
    expect_routes(std::vector<float>(at(c.tokens * c.experts), -kInfinity), c);
  }
}

TEST_F(RouterTest, KeysAreInTheOrderOfScores) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const float rising[] = {-kInfinity, -3e38f, -1.0f, -1e-45f, 0.0f, 1e-45f, 1.0f, 3e38f, kInfinity};
  uint32_t before = 0;
  for (const float score : rising) {
    EXPECT_GT(score_key(score), before) << score;
    EXPECT_EQ(key_score(score_key(score)), score);
    before = score_key(score);
  }
  EXPECT_GT(score_key(std::nanf("")), before);
  EXPECT_EQ(score_key(-std::nanf("")), score_key(std::nanf("")));
  EXPECT_NE(key_score(score_key(std::nanf(""))), key_score(score_key(std::nanf(""))));
  EXPECT_EQ(score_key(-0.0f), score_key(0.0f));
}

TEST_F(RouterTest, OfWhatIsNotANumberThereIsOne) {
  for (const float odd : {float_of(0x7fc12345u), float_of(0xffc00001u)}) {
    for (const float result :
         {router_share(odd, 2.0f), router_share(2.0f, odd), router_gradient(odd, 1.0f, 2.0f),
          router_gradient(1.0f, odd, 2.0f), router_gradient(0.0f, INFINITY, 0.0f)}) {
      EXPECT_EQ(bits_of(result), 0x7fc00000u);
    }
  }
}

// Those that were chosen before may come from anywhere, and nothing waits for them to be checked.
TEST_F(RouterTest, ExpertsThatDoNotExistHaveNoWeightAndWriteNothing) {
  for (const bool renormalise : {false, true}) {
    const Router router = {3, 4, 2, renormalise};
    const auto scores = Random(5).reals<float>(12, 2.0f),
               dweights = Random(6).reals<float>(6, 2.0f);
    const std::vector<int32_t> given = {1, 4, -1, 2, 3, 0};
    const auto [w, ds] = in_every_schedule([&] {
      const Buffer<float> s(scores), weights(6), dw(dweights), gradients(12);
      const Buffer<int32_t> e(given);
      launch_route_weights(weights.data(), s.data(), e.data(), router, nullptr);
      launch_route_backward(gradients.data(), s.data(), e.data(), weights.data(), dw.data(), router,
                            nullptr);
      return std::tuple(weights.values(), gradients.values());
    });
    EXPECT_NE(w[1], w[1]);
    EXPECT_NE(w[2], w[2]);
    for (const int known : {0, 3}) EXPECT_EQ(w[at(known)] != w[at(known)], renormalise);
    const auto third = weights_of(scores.data() + 8, 4, {3, 0}, renormalise);
    EXPECT_TRUE(same_bits(std::vector<float>{w[4], w[5]}, third));
    // What they spoil is seen, and is their token's.
    for (const int spoilt : {1, 6}) EXPECT_NE(ds[at(spoilt)], ds[at(spoilt)]);
    for (int i = 8; i < 12; ++i) EXPECT_EQ(ds[at(i)], ds[at(i)]);
  }
}

TEST_F(RouterTest, NoTokensAreNoWork) {
  const Buffer<float> none(0);
  const Buffer<int32_t> experts(0);
  const Router router = {0, 4, 2, true};
  launch_route(experts.data(), none.data(), none.data(), router, nullptr);
  launch_route_backward(none.data(), none.data(), experts.data(), none.data(), none.data(), router,
                        nullptr);
}

}  // namespace
}  // namespace rev::cuda
