// Every scheme, by algebra alone: undo after step is the identity in every bit, adjoint is the
// transpose of step, and step is the papers' formula.
#include <gtest/gtest.h>
#include <memory>
#include <torch/torch.h>

#include "rev/base/error.h"
#include "rev/kernels/grid.h"
#include "rev/kernels/reconstruction.h"
#include "rev/schemes/hamiltonian.h"
#include "rev/schemes/leapfrog.h"
#include "rev/schemes/midpoint.h"
#include "rev/schemes/midpoint_a.h"
#include "rev/schemes/residual.h"
#include "rev/schemes/revffn.h"
#include "schemes/fields.h"
#include "support/throws.h"

namespace rev::schemes {
namespace {

using at::Tensor;

struct Case {
  std::string name;
  std::function<std::shared_ptr<Scheme>(int64_t n_layers)> make;
};

std::ostream& operator<<(std::ostream& out, const Case& c) { return out << c.name; }

const std::vector<Case> kInvertible = {
    {"Midpoint", [](int64_t) { return std::make_shared<Midpoint>(0.5); }},
    {"MidpointThirdStep", [](int64_t) { return std::make_shared<Midpoint>(1.0 / 3); }},
    {"MidpointCopiedStart", [](int64_t) { return std::make_shared<Midpoint>(0.5, Start::Copy); }},
    {"MidpointA",
     [](int64_t n) { return std::make_shared<MidpointA>(MidpointA::draw(n, 7), 0.5); }},
    {"MidpointAPairs",
     [](int64_t n) { return std::make_shared<MidpointA>(MidpointA::draw_pairs(n, 7), 0.5); }},
    {"MidpointASmall",
     [](int64_t n) { return std::make_shared<MidpointA>(std::vector<double>(n, -0.75), 1.0); }},
    {"MidpointAShifts",
     [](int64_t n) {
       std::vector<double> a, h;
       for (int64_t l = 0; l < n; ++l) a.push_back((l % 2 == 0 ? -1 : 1) / std::exp2(l % 4));
       for (const double weight : a) h.push_back(1.25 + weight);
       return std::make_shared<MidpointA>(a, h);
     }},
    {"Leapfrog", [](int64_t) { return std::make_shared<Leapfrog>(0.5); }},
    {"LeapfrogCopiedStart", [](int64_t) { return std::make_shared<Leapfrog>(0.5, Start::Copy); }},
    {"Hamiltonian", [](int64_t) { return std::make_shared<Hamiltonian>(); }},
    {"HamiltonianA", [](int64_t) { return std::make_shared<Hamiltonian>(-1.3); }},
    {"RevFFN", [](int64_t) { return std::make_shared<RevFFN>(); }},
};

int64_t rows_differing(const Tensor& a, const Tensor& b) {
  return kernels::read_row_record(kernels::compare_rows(a, b)).differing;
}

class InvertibleTest : public ::testing::TestWithParam<Case> {
 protected:
  static constexpr int64_t kLayers = 5, kChannels = 8;

  // Weights of every layer's fields; the first field contracts, as RevFFN's fixed point needs.
  static std::vector<Tensor> weights(at::ScalarType dtype) {
    torch::manual_seed(11);
    std::vector<Tensor> w;
    for (int64_t l = 0; l < 3 * kLayers; ++l) w.push_back(torch::randn({8, 8}).mul(0.1).to(dtype));
    return w;
  }

  static TestFields fields(const std::vector<Tensor>& w, int64_t l) {
    const auto i = static_cast<size_t>(3 * l);
    const auto at_width = [](const Tensor& x, const Tensor& weight) {
      return x.matmul(weight.narrow(0, 0, x.size(-1)).narrow(1, 0, x.size(-1)));
    };
    return TestFields({[=](at::TensorList x) {
                         Tensor y = at_width(x[0], w[i]);
                         if (x.size() == 2) y = y + at_width(x[1], w[i + 1]);
                         return torch::tanh(y);
                       },
                       [=](at::TensorList x) { return torch::sin(at_width(x[0], w[i + 2])); }});
  }
};

TEST_P(InvertibleTest, UndoRebuildsEveryStateInEveryBitOnTheGrid) {
  const auto scheme = GetParam().make(kLayers);
  const StateOptions grid = scheme->plan(kLayers, {});
  const auto w = weights(at::kFloat);
  State s = scheme->begin(torch::randn({2, 3, kChannels}), grid, {});
  std::vector<State> states;
  std::vector<Witness> witnesses(kLayers);
  for (int64_t l = 0; l < kLayers; ++l) {
    states.push_back(s);  // kept: steps must not write into it
    witnesses[l].wanted = true;
    scheme->step(l, s, fields(w, l), witnesses[l]);
  }
  for (int64_t l = kLayers; l-- > 0;) {
    Witness rebuilt;
    scheme->undo(l, s, fields(w, l), witnesses[l], rebuilt);
    EXPECT_TRUE(at::equal(s.p, states[l].p)) << l;
    ASSERT_EQ(s.q.defined(), states[l].q.defined()) << l;
    if (s.q.defined()) {
      EXPECT_TRUE(at::equal(s.q, states[l].q)) << l;
    }
    if (s.digits.defined()) {
      EXPECT_TRUE(at::equal(s.digits, states[l].digits)) << l;
    }
    for (const auto sums : {&Witness::sums_q, &Witness::sums_p}) {
      ASSERT_EQ((witnesses[l].*sums).defined(), (rebuilt.*sums).defined()) << l;
      if ((rebuilt.*sums).defined()) {
        EXPECT_TRUE(at::equal(rebuilt.*sums, witnesses[l].*sums)) << l;
      }
    }
  }
}

TEST_P(InvertibleTest, EveryRebuiltStreamIsProvedBySums) {
  // Field k gives other values on the way back: every row of the stream that it moves must show it.
  const auto scheme = GetParam().make(kLayers);
  const StateOptions grid = scheme->plan(kLayers, {});
  const auto w = weights(at::kFloat);
  const State x = scheme->begin(torch::randn({2, 3, kChannels}), grid, {});
  for (const int64_t l : {int64_t{0}, kLayers - 1}) {
    for (int64_t k = 0; k < scheme->fields_per_layer(); ++k) {
      State s = x;
      std::vector<Witness> left(kLayers);
      for (int64_t i = 0; i <= l; ++i) {
        left[i].wanted = true;
        scheme->step(i, s, fields(w, i), left[i]);
      }
      const TestFields same = fields(w, l);
      const auto moved = [&](int64_t of) {
        return [&same, of, k](at::TensorList in) {
          return of == k ? same(of, in) + 1e-3 : same(of, in);
        };
      };
      Witness rebuilt;
      try {
        scheme->undo(l, s, TestFields({moved(0), moved(1)}), left[l], rebuilt);
      } catch (const base::NotInvertible& error) {  // RevFFN reads the sums of X1 itself
        EXPECT_EQ(scheme->name(), "revffn");
        EXPECT_EQ(k, 0);
        EXPECT_EQ(error.rows(), 6);
        continue;
      }
      const bool moves_p = scheme->fields_per_layer() == 2 ? k == 1 : !left[l].sums_q.defined();
      const auto sums = moves_p ? &Witness::sums_p : &Witness::sums_q;
      ASSERT_TRUE((left[l].*sums).defined() && (rebuilt.*sums).defined()) << l << " " << k;
      EXPECT_EQ(rows_differing(left[l].*sums, rebuilt.*sums), 6) << l << " " << k;
    }
  }
}

TEST_P(InvertibleTest, AdjointIsTheTransposeOfStep) {
  // Against ordinary autograd through the same steps written on float64 states.
  const auto scheme = GetParam().make(kLayers);
  StateOptions options;
  options.dtype = at::kDouble;
  options = scheme->plan(kLayers, options);
  const auto w = weights(at::kDouble);
  const Tensor x0 = torch::randn({2, 3, kChannels}, at::kDouble);
  const Tensor grad = torch::randn({2, 3, kChannels}, at::kDouble);

  State s = scheme->begin(x0, options, {});
  std::vector<std::vector<std::vector<Tensor>>> inputs(kLayers);  // of each layer's fields
  std::vector<std::vector<Tensor>> values(kLayers);
  for (int64_t l = 0; l < kLayers; ++l) {
    const TestFields plain = fields(w, l);
    const auto recorded = [&, l](int64_t k) {
      return [&, l, k](at::TensorList x) {
        std::vector<Tensor> leaves;
        for (const Tensor& t : x) leaves.push_back(t.detach().clone().requires_grad_());
        inputs[l].push_back(leaves);
        values[l].push_back(plain(k, leaves));
        return values[l].back().detach();
      };
    };
    Witness none;
    scheme->step(l, s, TestFields({recorded(0), recorded(1)}), none);
  }
  State g = scheme->finish_adjoint(grad);
  for (int64_t l = kLayers; l-- > 0;) {
    scheme->adjoint(l, g, [&](int64_t k, const Tensor& grad_value) {
      return torch::autograd::grad({values[l][k]}, inputs[l][k], {grad_value});
    });
  }
  const Tensor found = scheme->begin_adjoint(g);

  // Central differences of <grad, result> along a direction v: off by h^2 and eps / h, h = 1e-6.
  const auto result = [&](const Tensor& x) {
    State t = scheme->begin(x, options, {});
    for (int64_t l = 0; l < kLayers; ++l) {
      Witness none;
      scheme->step(l, t, fields(w, l), none);
    }
    return (scheme->finish(t) * grad).sum().item<double>();
  };
  const Tensor v = torch::randn_like(x0);
  const double h = 1e-6;
  const double difference = (result(x0 + h * v) - result(x0 - h * v)) / (2 * h);
  EXPECT_NEAR((found * v).sum().item<double>(), difference, 1e-7 * (1 + std::abs(difference)));
}

TEST_P(InvertibleTest, SaturationNamesTheStream) {
  const auto scheme = GetParam().make(kLayers);
  const StateOptions grid = scheme->plan(kLayers, {});
  const auto in_q = torch::tensor({1, 0}, at::kInt), in_p = torch::tensor({0, 1}, at::kInt);
  const auto huge = [](at::TensorList x) { return torch::full_like(x[0], 1e9); };
  const auto none = [](at::TensorList x) { return torch::zeros_like(x[0]); };
  const int64_t n_fields = scheme->fields_per_layer();
  for (int64_t k = 0; k < n_fields; ++k) {
    for (const int64_t l : {0, 1}) {
      State s = scheme->begin(torch::randn({2, 3, kChannels}), grid, {});
      Witness calm, w;
      if (l == 1) scheme->step(0, s, TestFields({none, none}), calm);
      w.saturated = torch::zeros({2}, at::kInt);
      const TestFields f = k == 0 ? TestFields({huge, none}) : TestFields({none, huge});
      scheme->step(l, s, f, w);
      // Of two fields the first moves q; a two-step scheme's newest point is p.
      EXPECT_TRUE(at::equal(w.saturated, n_fields == 2 && k == 0 ? in_q : in_p)) << w.saturated;
    }
  }
  // RevFFN's X1 and X2 are halves of the channels.
  for (const int64_t half : {0, 1}) {
    Tensor x = torch::zeros({2, 3, kChannels});
    x.narrow(-1, half * kChannels / 2, kChannels / 2).fill_(40000);
    Tensor flags = torch::zeros({2}, at::kInt);
    scheme->begin(x, grid, flags);
    EXPECT_TRUE(at::equal(flags, scheme->name() == "revffn" && half == 0 ? in_q : in_p)) << flags;
  }
}

TEST_P(InvertibleTest, EvaluateCallsTheFieldsWhereStepDoes) {
  const auto scheme = GetParam().make(kLayers);
  const StateOptions grid = scheme->plan(kLayers, {});
  const auto w = weights(at::kFloat);
  State s = scheme->begin(torch::randn({2, 3, kChannels}), grid, {});
  for (int64_t l = 0; l < kLayers; ++l) {
    const auto seen_by = [&](auto&& run) {
      std::vector<Tensor> seen;
      const TestFields plain = fields(w, l);
      const auto spy = [&](int64_t k) {
        return [&, k](at::TensorList x) {
          for (const Tensor& t : x) seen.push_back(t.clone());
          return plain(k, x);
        };
      };
      run(TestFields({spy(0), spy(1)}));
      return seen;
    };
    const auto evaluated =
        seen_by([&](const Fields& f) { scheme->evaluate(l, scheme->needed(s), f); });
    Witness none;
    const auto stepped = seen_by([&](const Fields& f) { scheme->step(l, s, f, none); });
    ASSERT_EQ(evaluated.size(), stepped.size());
    for (size_t i = 0; i < stepped.size(); ++i) EXPECT_TRUE(at::equal(evaluated[i], stepped[i]));
  }
}

INSTANTIATE_TEST_SUITE_P(Schemes, InvertibleTest, ::testing::ValuesIn(kInvertible),
                         [](const auto& tested) { return tested.param.name; });

// The papers' formulas, one step, on float64 states and on the grid.
class FormulaTest : public ::testing::TestWithParam<at::ScalarType> {
 protected:
  static constexpr int64_t kBits = 16;

  static Tensor f(const Tensor& x) { return torch::sin(x * 1.7); }
  static Tensor g(const Tensor& x) { return torch::tanh(x * 0.6); }

  void SetUp() override { torch::manual_seed(3); }

  static Tensor value(const Tensor& state) { return kernels::decode(state, kBits).to(at::kDouble); }

  // The step of layer l from random streams, whose values are left in q and p.
  State step(const Scheme& scheme, int64_t l = 1) {
    const StateOptions options = scheme.plan(2, {GetParam(), kBits});
    const auto stream = [&] {
      return kernels::encode(torch::randn({3, 4}, at::kDouble), options.dtype, kBits);
    };
    State s;
    s.bits = kBits;
    s.q = stream();
    s.p = stream();
    if (options.digits != at::ScalarType::Undefined) {
      s.digits = torch::randint(200, s.p.sizes(), options.digits);
    }
    q = value(s.q).clone();
    p = value(s.p).clone();
    Witness none;
    scheme.step(l, s,
                TestFields({[](at::TensorList x) { return f(x[0]); },
                            [](at::TensorList x) { return g(x[0]); }}),
                none);
    return s;
  }

  // Floats: a few roundings of numbers of size 8. The grid: a product to two cells (|a| < 2), an
  // increment to half a one, of which a second stream's field sees the first's.
  static void expect_near(const Tensor& state, const Tensor& formula) {
    const double tolerance = GetParam() == at::kInt ? 3.5 * 0x1p-16 : 8e-15;
    EXPECT_LT((value(state) - formula).abs().max().item<double>(), tolerance);
  }

  Tensor q, p;
};

TEST_P(FormulaTest, MidpointIsEquation4) {
  const State s = step(Midpoint(0.3));
  expect_near(s.p, q + 2 * 0.3 * f(p));
  EXPECT_TRUE(at::equal(value(s.q), p));
}

TEST_P(FormulaTest, LeapfrogIsEquation6) {
  const State s = step(Leapfrog(0.3));
  expect_near(s.p, 2 * p - q + 0.3 * 0.3 * f(p));
  EXPECT_TRUE(at::equal(value(s.q), p));
}

TEST_P(FormulaTest, MidpointAIsEquation15) {
  for (const double a : {-0.75, 1.25, 383.0 / 256}) {
    const State s = step(MidpointA({1.0, a}, 0.3));
    expect_near(s.p, a * q + (1 - a) * p + 0.3 * f(p));
  }
}

TEST_P(FormulaTest, MidpointAWithOneIsMidpointWithHalfTheStep) {
  const State weighted = step(MidpointA({1.0, 1.0}, 0.6));
  torch::manual_seed(3);
  EXPECT_TRUE(at::equal(weighted.p, step(Midpoint(0.3)).p));
}

TEST_P(FormulaTest, HamiltonianIsEquations8And9And20) {
  for (const double a : {1.0, 1.25, -0.625}) {
    const State s = step(Hamiltonian(a));
    expect_near(s.q, a * q + f(p));
    expect_near(s.p, p / a + g(value(s.q)));
  }
}

TEST_P(FormulaTest, ResidualIsEquation26) {
  const State s = step(Residual());
  expect_near(s.p, p + f(p));
}

TEST_P(FormulaTest, EulerStartIsAResidualStepWithWeightOne) {
  for (const auto& scheme : std::vector<std::shared_ptr<Scheme>>{
           std::make_shared<Midpoint>(0.3), std::make_shared<Leapfrog>(0.3),
           std::make_shared<MidpointA>(std::vector<double>{0.5, 0.5})}) {
    const State s = step(*scheme, 0);
    expect_near(s.p, p + f(p));
    EXPECT_TRUE(at::equal(value(s.q), p));
  }
}

INSTANTIATE_TEST_SUITE_P(States, FormulaTest, ::testing::Values(at::kDouble, at::kInt),
                         [](const auto& tested) {
                           return tested.param == at::kInt ? "Grid" : "Float64";
                         });

TEST(MidpointATest, DrawsAreEquation16AndAFunctionOfTheSeed) {
  const auto a = MidpointA::draw(20000, 5);
  EXPECT_EQ(a, MidpointA::draw(20000, 5));
  EXPECT_NE(a, MidpointA::draw(20000, 6));
  double mean = 0, square = 0;
  for (const double x : a) {
    EXPECT_GE(std::abs(x), 0.5);
    EXPECT_LE(std::abs(x), 1.5);
    mean += x / 20000;
    square += x * x / 20000;
  }
  // E a = 0, E a^2 = 13/12; five standard errors of 20000 draws.
  EXPECT_NEAR(mean, 0, 5 * std::sqrt(13.0 / 12 / 20000));
  EXPECT_NEAR(square, 13.0 / 12, 5 * 0.6 / std::sqrt(20000.0));
}

TEST(MidpointATest, RefusesWeightsWithoutInverse) {
  EXPECT_THROW_WITH(MidpointA({1.0, 0.0}), "a = 0 has no inverse");
  EXPECT_THROW_WITH(MidpointA({1.0, NAN}), "has no inverse");
  EXPECT_THROW_WITH(MidpointA({1.0, 1.0 / 512}), "must be above 1/512 and below 65536");
  EXPECT_THROW_WITH(MidpointA({1.0, -65536}), "must be above 1/512 and below 65536");
  MidpointA two({1.0, 0.5});
  EXPECT_THROW_WITH(two.plan(3, {}), "3 layers need as many weights a, got 2");
  EXPECT_EQ(two.a(1), 0.5);
  EXPECT_THROW_WITH(MidpointA({1.0, 0.5, 1.0}, std::vector<double>{1.0, 0.5}).plan(3, {}),
                    "3 layers need one step h or as many, got 2");
  EXPECT_THROW_WITH(MidpointA({1.0}, std::vector<double>{}), "expected a step h, got none");
  EXPECT_THROW_WITH(two.a(2), "midpoint-a: expected a layer from 0 to 1, got 2");
  EXPECT_THROW_WITH(two.a(-1), "midpoint-a: expected a layer from 0 to 1, got -1");
}

TEST(MidpointATest, DigitsAreAsWideAsTheDepthNeeds) {
  const auto digits = [](const std::vector<double>& a) {
    return MidpointA(a).plan(static_cast<int64_t>(a.size()), {}).digits;
  };
  EXPECT_EQ(digits(MidpointA::draw(96, 1)), at::kInt);
  EXPECT_EQ(digits(MidpointA::draw_pairs(1000, 1)), at::kInt);
  EXPECT_EQ(digits(std::vector<double>(40, 129.0 / 256)), at::kLong);
  EXPECT_EQ(digits(std::vector<double>(40, -1.0)), at::ScalarType::Undefined);
  EXPECT_EQ(digits(std::vector<double>(1000, -0.125)), at::ScalarType::Undefined);  // bit planes
  EXPECT_THROW_WITH(digits(std::vector<double>(70, 129.0 / 256)), "need more than 64 bits");
}

TEST(MidpointATest, OneSchemeServesStacksOfBothKinds) {
  const MidpointA scheme({1.0, 0.75});
  const StateOptions grid = scheme.plan(2, {});
  const StateOptions floats = scheme.plan(2, {at::kFloat});
  const Tensor x = torch::randn({2, 4});
  EXPECT_EQ(scheme.begin(x, grid, {}).digits.scalar_type(), at::kInt);
  EXPECT_FALSE(scheme.begin(x, floats, {}).digits.defined());
}

TEST(RevFFNTest, ReportsTokensThatDoNotSettle) {
  RevFFN scheme({2, 20, 2});
  const StateOptions grid;
  State s = scheme.begin(torch::randn({1, 6, 4}), grid, {});
  // Tokens 0 to 2 are pushed apart (slope 3), the others are at rest.
  const Tensor slope = torch::tensor({3.0, 3.0, 3.0, 0.1, 0.1, 0.1}).view({1, 6, 1});
  const TestFields f({[=](at::TensorList x) { return torch::sin(x[0] * slope * 4); },
                      [](at::TensorList x) { return torch::zeros_like(x[0]); }});
  Witness left, rebuilt;
  left.wanted = true;
  scheme.step(0, s, f, left);
  EXPECT_THROW_WITH(scheme.undo(0, s, f, left, rebuilt), "layer 0 cannot be inverted");
  EXPECT_GT(rebuilt.contraction, 1.0);
}

TEST(RevFFNTest, EvaluatesEachFieldOnceOutsideTheFixedPoint) {
  RevFFN scheme;
  const StateOptions grid;
  State s = scheme.begin(torch::randn({1, 6, 4}), grid, {});
  const TestFields f({[](at::TensorList x) { return x[0] * 0.2 + x[1]; },
                      [](at::TensorList x) { return torch::sin(x[0]); }});
  Witness left, rebuilt;
  left.wanted = true;
  scheme.step(0, s, f, left);
  EXPECT_EQ(f.calls(), 2);
  scheme.undo(0, s, f, left, rebuilt);
  EXPECT_EQ(f.calls(), 4);
  EXPECT_NEAR(rebuilt.contraction, 0.2, 0.05);  // the map's slope, less the rounding of small moves
  EXPECT_EQ(left.n_low_bits, 2);
  EXPECT_THROW_WITH(RevFFN({3, 20, 2}), "low_bits must be 2, 4, 8, 16");
  EXPECT_THROW_WITH(scheme.begin(torch::randn({1, 6, 5}), grid, {}), "C must be even");
}

TEST(ResidualTest, HasNoInverse) {
  Residual scheme;
  EXPECT_FALSE(scheme.invertible());
  State s;
  Witness w;
  EXPECT_THROW_WITH(scheme.undo(3, s, TestFields({}), w, w), "layer 3 has no inverse");
}

}  // namespace
}  // namespace rev::schemes
