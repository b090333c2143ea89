#include "rev/kernels/moe.h"

#include <ATen/Parallel.h>
#include <cmath>
#include <gtest/gtest.h>
#include <limits>
#include <torch/torch.h>

#include "cuda/bfloat16.h"
#include "cuda/router_math.h"
#include "cuda/sum_math.h"
#include "support/throws.h"

namespace rev::kernels {
namespace {

using at::Tensor;

constexpr double kUnit = 0x1p-24;  // rounding of float32, relative

double unit_of(at::ScalarType dtype) { return dtype == at::kFloat ? kUnit : 0x1p-8; }

struct Case {
  int64_t tokens, experts, chosen, width;
};

const Case kCases[] = {{1, 1, 1, 1},     {3, 2, 1, 7},      {5, 4, 2, 33},   {40, 60, 4, 31},
                       {17, 64, 8, 257}, {33, 128, 8, 260}, {9, 512, 16, 8}, {70, 33, 3, 1025}};

std::ostream& operator<<(std::ostream& out, const Case& c) {
  return out << c.tokens << " tokens, " << c.chosen << " of " << c.experts << ", width " << c.width;
}

// All different, from -8 to 8.
Tensor scores_of(const Case& c, at::ScalarType dtype = at::kFloat) {
  const int64_t n = c.tokens * c.experts;
  const Tensor distinct = torch::randperm(n, at::kFloat).view({c.tokens, c.experts});
  return distinct.div(static_cast<double>(n)).mul(16).sub(8).to(dtype);
}

// The weights in the dtype of the scores, with a graph.
Tensor weights_of(const Tensor& scores, const Tensor& experts, bool renormalise) {
  const Tensor p = scores.softmax(1).gather(1, experts.to(at::kLong));
  return renormalise ? p / p.sum(1, true) : p;
}

// |got - want| <= bound, element by element.
void expect_within(const Tensor& got, const Tensor& want, const Tensor& bound, const Case& c) {
  const Tensor off = (got.to(at::kDouble) - want.to(at::kDouble)).abs();
  EXPECT_TRUE(off.le(bound).all().item<bool>())
      << c << ": off by " << (off - bound).max().item<double>() << " more than the bound";
}

// Relative error of a weight: the power of s - greatest, |s - greatest| <= 16, by the difference's
// rounding (16 units) and exp's 0.9 ulp (1.8 units); the same in the sum, which rounds E/32 + 5
// times; and the quotient's rounding. Renormalised, the sum of k and a quotient more.
double weight_error(const Case& c) {
  const double experts = static_cast<double>(c.experts), chosen = static_cast<double>(c.chosen);
  return (2 * 17.8 + experts / 32 + 6 + 2 * chosen + 2) * kUnit;
}

TEST(MoeTest, RoutesToTheGreatestOfTheSoftmax) {
  for (const Case& c : kCases) {
    for (const bool renormalise : {false, true}) {
      const Tensor scores = scores_of(c);
      const Routing r = route(scores, c.chosen, renormalise);
      const Tensor wide = scores.to(at::kDouble);
      const auto [values, experts] = wide.softmax(1).topk(c.chosen, 1);
      EXPECT_TRUE(at::equal(r.experts.to(at::kLong), experts)) << c;
      const Tensor want = weights_of(wide, r.experts, renormalise);
      expect_within(r.weights, want, want * weight_error(c), c);
      EXPECT_EQ(r.experts.scalar_type(), at::kInt);
      EXPECT_EQ(r.weights.scalar_type(), at::kFloat);
    }
  }
}

TEST(MoeTest, BFloat16ScoresAreReadAsTheyAre) {
  for (const Case& c : kCases) {
    const Tensor scores = scores_of(c, at::kBFloat16);  // with equal ones
    const Routing r = route(scores, c.chosen, true),
                  wide = route(scores.to(at::kFloat), c.chosen, true);
    EXPECT_TRUE(at::equal(r.experts, wide.experts)) << c;
    EXPECT_TRUE(at::equal(r.weights, wide.weights)) << c;
  }
}

TEST(MoeTest, OfEqualScoresTheLowerExpertComesFirst) {
  const Tensor scores =
      torch::tensor({{1.0f, 2.0f, 1.0f, 2.0f, 0.0f}, {-0.0f, 0.0f, 0.0f, -1.0f, -0.0f}});
  EXPECT_TRUE(at::equal(route(scores, 4, false).experts,
                        torch::tensor({{1, 3, 0, 2}, {0, 1, 2, 4}}, at::kInt)));
}

TEST(MoeTest, AScoreWithoutAValueIsChosenAndSpoilsItsTokenAlone) {
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  const Tensor scores = torch::tensor({{1.0f, kNan, 3.0f}, {1.0f, 2.0f, 3.0f}});
  const Routing r = route(scores, 2, true);
  EXPECT_TRUE(at::equal(r.experts, torch::tensor({{1, 2}, {2, 1}}, at::kInt)));
  EXPECT_TRUE(r.weights[0].isnan().all().item<bool>());
  EXPECT_TRUE(r.weights[1].isfinite().all().item<bool>());
}

// Element by element as cuda/router_math.h has it, in this order: the bits of every device.
TEST(MoeTest, WeightsAndGradientsHaveTheBitsOfTheFormula) {
  for (const Case& c : kCases) {
    for (const bool renormalise : {false, true}) {
      const Tensor scores = scores_of(c), dweights = torch::randn({c.tokens, c.chosen});
      const Routing r = route(scores, c.chosen, renormalise);
      Tensor weights = torch::empty_like(r.weights), dscores = torch::empty_like(scores);
      for (int64_t token = 0; token < c.tokens; ++token) {
        const float* s = scores[token].const_data_ptr<float>();
        const int32_t* experts = r.experts[token].const_data_ptr<int32_t>();
        const float* dw = dweights[token].const_data_ptr<float>();
        float *w = weights[token].mutable_data_ptr<float>(),
              *ds = dscores[token].mutable_data_ptr<float>();
        const float greatest = scores[token].max().item<float>();
        const float sum = cuda::ordered_sum<cuda::kRouterLanes>(
            c.experts, [&](int64_t e) { return cuda::router_power(s[e], greatest); });
        float total = 0, inner = 0;
        for (int64_t j = 0; j < c.chosen; ++j) {
          w[j] = cuda::router_share(cuda::router_power(s[experts[j]], greatest), sum);
          total += w[j];
        }
        for (int64_t j = 0; j < c.chosen; ++j) {
          if (renormalise) w[j] = cuda::router_share(w[j], total);
          inner += w[j] * dw[j];
        }
        for (int64_t e = 0; e < c.experts; ++e) {
          const float p = cuda::router_share(cuda::router_power(s[e], greatest), sum);
          ds[e] = renormalise ? 0.0f : cuda::router_gradient(p, 0.0f, inner);
        }
        for (int64_t j = 0; j < c.chosen; ++j) {
          ds[experts[j]] = cuda::router_gradient(w[j], dw[j], inner);
        }
      }
      EXPECT_TRUE(at::equal(r.weights, weights)) << c;
      EXPECT_TRUE(at::equal(route_backward(dweights, scores, r, renormalise), dscores)) << c;
    }
  }
}

TEST(MoeTest, RouteBackwardIsTheDerivative) {
  for (const Case& c : kCases) {
    for (const auto dtype : {at::kFloat, at::kBFloat16}) {
      for (const bool renormalise : {false, true}) {
        const Tensor scores = scores_of(c, dtype), dweights = torch::randn({c.tokens, c.chosen});
        const Routing r = route(scores, c.chosen, renormalise);
        const Tensor wide = scores.to(at::kDouble).requires_grad_();
        const Tensor weights = weights_of(wide, r.experts, renormalise);
        const Tensor want = torch::autograd::grad({weights}, {wide}, {dweights.to(at::kDouble)})[0];
        const Tensor got = route_backward(dweights, scores, r, renormalise);
        EXPECT_EQ(got.scalar_type(), dtype);
        // p (dp - inner): the errors of p, and of inner, a sum of k products of such p; a rounding
        // of inner, of the difference and of the product each; and of the result.
        const Tensor inner = (weights * dweights.to(at::kDouble)).abs().sum(1, true);
        const Tensor softmax = wide.detach().softmax(1);
        const Tensor chosen = softmax.gather(1, r.experts.to(at::kLong)).sum(1, true);
        const Tensor p = renormalise ? softmax / chosen : softmax;
        const Tensor dp = dweights.abs().amax(1, true).to(at::kDouble);
        const double error = 2 * weight_error(c) + static_cast<double>(c.chosen + 3) * kUnit;
        expect_within(got, want, p * (dp + inner) * error + want.abs() * unit_of(dtype), c);
      }
    }
  }
}

TEST(MoeTest, RowsAreSlotsInTheStableOrderOfTheirExperts) {
  for (const Case& c : kCases) {
    const Routing r = route(scores_of(c), c.chosen, false);
    const Tensor experts = r.experts.reshape({-1}).to(at::kLong);
    const Tensor order = experts.argsort(/*stable=*/true, 0, false);
    EXPECT_TRUE(at::equal(r.order.to(at::kLong), order)) << c;
    EXPECT_TRUE(at::equal(r.rows.to(at::kLong), order.argsort())) << c;
    const Tensor counts = experts.bincount({}, c.experts);
    EXPECT_TRUE(at::equal(r.offsets.to(at::kLong),
                          torch::cat({torch::zeros({1}, at::kLong), counts.cumsum(0)})))
        << c;
  }
}

TEST(MoeTest, ARoutingIsRepeatedForOtherScores) {
  for (const Case& c : kCases) {
    const Tensor scores = scores_of(c);
    const Routing first = route(scores, c.chosen, true);
    const Routing same = route_to(first.experts, scores, true);
    EXPECT_TRUE(at::equal(same.weights, first.weights)) << c;
    const Tensor others = scores_of(c);
    const Routing again = route_to(first.experts, others, true);
    for (const auto& [a, b] :
         {std::pair(again.experts, first.experts), std::pair(again.offsets, first.offsets),
          std::pair(again.order, first.order), std::pair(again.rows, first.rows)}) {
      EXPECT_TRUE(at::equal(a, b)) << c;
    }
    const Tensor want = weights_of(others.to(at::kDouble), first.experts, true);
    expect_within(again.weights, want, want * weight_error(c), c);
  }
}

TEST(MoeTest, DispatchCopiesRowsAndItsBackwardSumsThem) {
  for (const Case& c : kCases) {
    for (const auto dtype : {at::kFloat, at::kBFloat16}) {
      const Routing r = route(scores_of(c), c.chosen, false);
      const Tensor x = torch::randn({c.tokens, c.width}).to(dtype);
      const Tensor tokens = r.order.to(at::kLong).div(c.chosen, "floor");
      EXPECT_TRUE(at::equal(dispatch(x, r), x.index_select(0, tokens))) << c;

      const Tensor grad = torch::randn({c.tokens * c.chosen, c.width}).to(dtype);
      const Tensor copies =
          grad.index_select(0, r.rows.to(at::kLong)).view({c.tokens, c.chosen, -1});
      Tensor sum = torch::zeros({c.tokens, c.width});
      for (int64_t j = 0; j < c.chosen; ++j) sum.add_(copies.select(1, j).to(at::kFloat));
      EXPECT_TRUE(at::equal(dispatch_backward(grad, r), sum.to(dtype))) << c << dtype;
    }
  }
}

TEST(MoeTest, CombineSumsWeightedRowsInTheOrderOfTheSlots) {
  for (const Case& c : kCases) {
    for (const auto dtype : {at::kFloat, at::kBFloat16}) {
      const Routing r = route(scores_of(c), c.chosen, true);
      const Tensor x = torch::randn({c.tokens * c.chosen, c.width}).to(dtype);
      const Tensor rows = x.index_select(0, r.rows.to(at::kLong)).view({c.tokens, c.chosen, -1});
      Tensor sum = torch::zeros({c.tokens, c.width});
      for (int64_t j = 0; j < c.chosen; ++j) {
        sum.add_(r.weights.select(1, j).unsqueeze(1).mul(rows.select(1, j).to(at::kFloat)));
      }
      EXPECT_TRUE(at::equal(combine(x, r), sum.to(dtype))) << c << dtype;
    }
  }
}

TEST(MoeTest, CombineBackwardIsTheDerivative) {
  for (const Case& c : kCases) {
    for (const auto dtype : {at::kFloat, at::kBFloat16}) {
      const Routing r = route(scores_of(c), c.chosen, true);
      const Tensor x = torch::randn({c.tokens * c.chosen, c.width}).to(dtype);
      const Tensor grad = torch::randn({c.tokens, c.width}).to(dtype);
      const auto [dx, dw] = combine_backward(grad, x, r);
      const Tensor slots = r.order.to(at::kLong);
      const Tensor spread = grad.index_select(0, slots.div(c.chosen, "floor"));  // [N k,C]
      const Tensor weights = r.weights.view({-1}).index_select(0, slots).unsqueeze(1);
      EXPECT_TRUE(at::equal(dx, weights.mul(spread.to(at::kFloat)).to(dtype))) << c << dtype;

      const Tensor gradients = spread.to(at::kFloat), values = x.to(at::kFloat);
      Tensor want = torch::empty({c.tokens * c.chosen});
      for (int64_t row = 0; row < want.numel(); ++row) {
        const float* g = gradients[row].const_data_ptr<float>();
        const float* v = values[row].const_data_ptr<float>();
        want[slots[row].item<int64_t>()] =
            cuda::ordered_sum<32>(c.width, [&](int64_t i) { return g[i] * v[i]; });
      }
      EXPECT_TRUE(at::equal(dw.view({-1}), want)) << c << dtype;
    }
  }
}

TEST(MoeTest, WhatIsDispatchedAndCombinedComesBack) {
  const Case c{33, 16, 4, 65};
  const Routing r = route(scores_of(c), c.chosen, true);
  const Tensor x = torch::randn({c.tokens, c.width});
  // k products and sums, of weights that add up to one but for as many roundings.
  expect_within(combine(dispatch(x, r), r), x, x.abs().to(at::kDouble) * 3 * 4 * kUnit, c);
}

TEST(MoeTest, BitsDoNotDependOnTheNumberOfThreads) {
  const Case c{100, 64, 8, 65};  // several threads' worth
  const Tensor scores = scores_of(c), x = torch::randn({c.tokens, c.width});
  const Tensor grad = torch::randn({c.tokens, c.width}),
               dweights = torch::randn({c.tokens, c.chosen});
  const auto run = [&](int threads) {
    at::set_num_threads(threads);
    const Routing r = route(scores, c.chosen, true);
    const Tensor rows = dispatch(x, r);
    const auto [dx, dw] = combine_backward(grad, rows, r);
    return std::vector<Tensor>{r.weights,
                               r.order,
                               rows,
                               combine(rows, r),
                               dispatch_backward(dx, r),
                               dx,
                               dw,
                               route_backward(dweights, scores, r, false)};
  };
  const int threads = at::get_num_threads();
  const auto one = run(1), two = run(2);
  at::set_num_threads(threads);
  for (size_t i = 0; i < one.size(); ++i) EXPECT_TRUE(at::equal(one[i], two[i])) << i;
}

TEST(MoeTest, ViewsAreReadAndGraphsLeftBehind) {
  const Tensor scores = torch::randn({6, 5}).requires_grad_();
  const Routing r = route(scores.t(), 2, false), plain = route(scores.t().contiguous(), 2, false);
  EXPECT_TRUE(at::equal(r.weights, plain.weights));
  EXPECT_FALSE(r.weights.requires_grad());
  const Tensor x = torch::randn({8, 5}).requires_grad_();
  const Tensor y = dispatch(x.t(), r);
  EXPECT_FALSE(y.requires_grad());
  EXPECT_TRUE(at::equal(y, dispatch(x.t().contiguous(), r)));
}

TEST(MoeTest, NoTokensAndNoWidthAreNoWork) {
  const Routing none = route(torch::empty({0, 4}), 2, true);
  EXPECT_EQ(none.weights.sizes(), (std::vector<int64_t>{0, 2}));
  EXPECT_TRUE(at::equal(none.offsets, torch::zeros({5}, at::kInt)));
  EXPECT_EQ(dispatch(torch::empty({0, 3}), none).sizes(), (std::vector<int64_t>{0, 3}));
  EXPECT_EQ(combine(torch::empty({0, 3}), none).sizes(), (std::vector<int64_t>{0, 3}));

  const Routing r = route(torch::randn({3, 4}), 2, true);
  EXPECT_EQ(dispatch(torch::empty({3, 0}), r).sizes(), (std::vector<int64_t>{6, 0}));
  EXPECT_EQ(combine(torch::empty({6, 0}), r).sizes(), (std::vector<int64_t>{3, 0}));
  const auto [dx, dw] = combine_backward(torch::empty({3, 0}), torch::empty({6, 0}), r);
  EXPECT_TRUE(at::equal(dw, torch::zeros({3, 2})));
}

TEST(MoeTest, RefusesWhatDoesNotFit) {
  const Tensor scores = torch::randn({3, 4});
  EXPECT_THROW_WITH(route(scores.to(at::kDouble), 2, true), "matrix of float32 or bfloat16");
  EXPECT_THROW_WITH(route(scores[0], 2, true), "got [4]");
  EXPECT_THROW_WITH(route(torch::randn({3, 513}), 2, true), "1 to 512 experts");
  EXPECT_THROW_WITH(route(scores, 5, true), "got 5 of 4");
  EXPECT_THROW_WITH(route(torch::randn({3, 64}), 17, true), "got 17 of 64");
  EXPECT_THROW_WITH(route(scores, 0, true), "got 0 of 4");
  const auto experts = [](std::vector<int32_t> values) {
    return torch::tensor(values, at::kInt).view({3, 1});
  };
  EXPECT_THROW_WITH(route_to(experts({0, 1, 2}).to(at::kLong), scores, true),
                    "contiguous Int [3, 1]");
  EXPECT_THROW_WITH(route_to(experts({0, 1, 2}), torch::randn({2, 4}), true),
                    "contiguous Int [2, 1]");

  EXPECT_THROW_WITH(route_to(experts({0, 4, 2}), scores, true), "experts must be 0 to 3");
  EXPECT_THROW_WITH(route_to(experts({0, -1, 2}), scores, true), "experts must be 0 to 3");

  const Routing r = route(scores, 2, true);
  EXPECT_THROW_WITH(dispatch(torch::randn({4, 3}), r), "the routing has 3 rows for x, got [4, 3]");
  EXPECT_THROW_WITH(combine(torch::randn({3, 3}), r), "the routing has 6 rows for x");
  EXPECT_THROW_WITH(dispatch(torch::randn({3, 3}, at::kDouble), r), "float32 or bfloat16");
  EXPECT_THROW_WITH(combine_backward(torch::randn({3, 2}), torch::randn({6, 3}), r),
                    "but grad [3, 2]");
  EXPECT_THROW_WITH(route_backward(torch::randn({3, 1}), scores, r, true), "grad_weights must be");
  EXPECT_THROW_WITH(dispatch(torch::randn({3, 3}), Routing{}), "the routing has no experts");
  Routing broken = r;
  broken.rows = r.rows.narrow(0, 0, 5);
  EXPECT_THROW_WITH(combine(torch::randn({6, 3}), broken), "the routing's rows must be");
}

TEST(MoeTest, RefusesARoutingToMoreExpertsThanKernelsTake) {
  for (const int64_t k : {0, 17, 33}) {
    const auto ints = at::TensorOptions(at::kInt);
    const Routing made{torch::zeros({3, k}, ints), torch::ones({3, k}), torch::zeros({65}, ints),
                       torch::arange(3 * k, ints), torch::arange(3 * k, ints)};
    const std::string part = "must have 1 to 16 experts of a token, got " + std::to_string(k);
    EXPECT_THROW_WITH(dispatch(torch::randn({3, 4}), made), part);
    EXPECT_THROW_WITH(dispatch_backward(torch::randn({3 * k, 4}), made), part);
    EXPECT_THROW_WITH(combine(torch::randn({3 * k, 4}), made), part);
    EXPECT_THROW_WITH(combine_backward(torch::randn({3, 4}), torch::randn({3 * k, 4}), made), part);
    EXPECT_THROW_WITH(route_backward(torch::randn({3, k}), torch::randn({3, 64}), made, true),
                      part);
  }
}

}  // namespace
}  // namespace rev::kernels
