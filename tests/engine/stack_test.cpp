// What a stack promises: gradients of the papers' formulas, the same bits under every memory
// policy, and the manners of an ordinary autograd node.
#include "rev/engine/stack.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "engine/stacks.h"
#include "rev/base/error.h"
#include "rev/base/memory_stats.h"
#include "support/gradcheck.h"
#include "support/throws.h"

namespace rev::engine {
namespace {

using at::Tensor;

Tensor input(at::ScalarType dtype = at::kFloat, int64_t channels = kChannels) {
  torch::manual_seed(5);
  return torch::randn({2, 6, channels}, dtype);
}

// What every scheme promises, by name.
class SchemeTest : public ::testing::TestWithParam<std::string> {
 protected:
  static std::vector<Memory> policies() {
    if (GetParam() == "residual") return {Memory::Store, Memory::Checkpoint};
    return {Memory::Store, Memory::Checkpoint, Memory::Invert};
  }
};

std::string name_of(const ::testing::TestParamInfo<std::string>& info) {
  return test_name(info.param);
}

// Each gradient against autograd through the plain formula, worst relative to its largest element.
// What differs is the order of sums in float64: some 1e3 roundings of 1e-16 each, times the depth.
bool close(const Tensor& a, const Tensor& b) {
  return (a - b).abs().max().item<double>() <= 1e-10 * (1 + b.abs().max().item<double>());
}

// input_needs_gradient false: gradients of parameters alone.
void expect_gradients_of_the_formula(const std::string& scheme, int64_t n_layers, Memory memory,
                                     bool input_needs_gradient = true) {
  const auto where = c10::str(scheme, " depth ", n_layers, " memory ", static_cast<int>(memory));
  TestStack s =
      make_stack({.scheme = scheme, .n_layers = n_layers, .memory = memory, .state = at::kDouble});
  const auto parameters = s.parameters();
  const auto step = [&](auto&& forward) {
    const Tensor x = input(at::kDouble).requires_grad_(input_needs_gradient);
    for (Tensor p : parameters) p.mutable_grad() = Tensor();
    Step found;
    found.y = forward(x);
    (found.y * found.y).sum().backward();
    found.grad_x = x.grad();
    for (const Tensor& p : parameters) found.grads.push_back(p.grad());
    return found;
  };
  const Step found = step([&](const Tensor& x) { return s.stack->forward(x); });
  const Step formula = step([&](const Tensor& x) { return plain(s, scheme, x); });
  EXPECT_TRUE(close(found.y, formula.y)) << where;
  ASSERT_EQ(found.grad_x.defined(), input_needs_gradient) << where;
  if (input_needs_gradient) {
    EXPECT_TRUE(close(found.grad_x, formula.grad_x)) << where;
  }
  for (size_t i = 0; i < parameters.size(); ++i) {
    ASSERT_EQ(found.grads[i].defined(), formula.grads[i].defined()) << where << " " << i;
    EXPECT_TRUE(close(found.grads[i], formula.grads[i])) << where << " " << i;
  }
}

TEST_P(SchemeTest, GradientsAreThoseOfTheFormulaAtAnyDepth) {
  for (const int64_t depth : {1, 2, 3, 7, 12}) {
    for (const Memory memory : policies()) {
      // Of floats each layer that is undone with |a| = 1/8 makes eight of one rounding.
      if (is_retrofit(GetParam()) && memory == Memory::Invert && depth > 3) continue;
      expect_gradients_of_the_formula(GetParam(), depth, memory);
    }
  }
}

TEST_P(SchemeTest, ParametersGetThoseOfTheFormulaWhenTheInputNeedsNone) {
  for (const Memory memory : policies()) {
    expect_gradients_of_the_formula(GetParam(), 3, memory, /*input_needs_gradient=*/false);
  }
}

TEST_P(SchemeTest, AutogradGradGivesThemAndTouchesNothing) {
  for (const Memory memory : policies()) {
    TestStack s = make_stack({.scheme = GetParam(), .memory = memory, .state = at::kDouble});
    std::vector<Tensor> wanted = s.parameters();
    wanted.push_back(input(at::kDouble).requires_grad_());
    const auto gradients = [&](const Tensor& y) {
      return torch::autograd::grad({y.square().sum()}, wanted, {}, {}, false,
                                   /*allow_unused=*/true);
    };
    const auto found = gradients(s.stack->forward(wanted.back()));
    const auto formula = gradients(plain(s, GetParam(), wanted.back()));
    for (size_t i = 0; i < wanted.size(); ++i) {
      ASSERT_EQ(found[i].defined(), formula[i].defined()) << i;
      EXPECT_TRUE(close(found[i], formula[i])) << i;
      EXPECT_FALSE(wanted[i].grad().defined()) << i;
    }
  }
}

TEST_P(SchemeTest, GradientsPassTheGradcheck) {
  for (const Memory memory : policies()) {
    TestStack s = make_stack({.scheme = GetParam(),
                              .n_layers = 3,
                              .memory = memory,
                              .state = at::kDouble,
                              .channels = 4});
    std::vector<Tensor> leaves = {torch::randn({1, 2, 4}, at::kDouble).requires_grad_()};
    for (const Tensor& p : s.parameters()) leaves.push_back(p);
    EXPECT_LT(support::gradient_error([&] { return s.stack->forward(leaves[0]); }, leaves),
              support::kGradientTolerance);
  }
}

TEST_P(SchemeTest, TwoForwardsBeforeTwoBackwardsReplayEachItsOwn) {
  const auto under = [](Memory memory) {
    TestStack s = make_stack({.scheme = GetParam(), .memory = memory, .dropout = 0.3});
    const Tensor a = input().requires_grad_(), b = (input() * 0.5).detach().requires_grad_();
    torch::manual_seed(9);
    const Tensor ya = s.stack->forward(a), yb = s.stack->forward(b);
    ya.square().sum().backward();
    yb.square().sum().backward();
    Step step{torch::cat({ya, yb}).detach(), torch::cat({a.grad(), b.grad()}), {}};
    for (const Tensor& p : s.parameters()) step.grads.push_back(p.grad());
    return step;
  };
  for (const Memory memory : policies()) expect_same_bits(under(memory), under(Memory::Store));
}

TEST_P(SchemeTest, FrozenParametersGetNoGradient) {
  for (const Memory memory : policies()) {
    TestStack s = make_stack({.scheme = GetParam(), .memory = memory});
    const Tensor w = s.blocks[1][0]->in->weight;
    w.requires_grad_(false);
    const Step frozen = run(s, input());
    w.requires_grad_(true);
    const Step all = run(s, input());
    EXPECT_TRUE(at::equal(frozen.grad_x, all.grad_x));
    const auto parameters = s.parameters();
    for (size_t i = 0; i < parameters.size(); ++i) {
      ASSERT_EQ(frozen.grads[i].defined(), !parameters[i].is_same(w)) << i;
      if (parameters[i].is_same(w)) continue;
      EXPECT_TRUE(at::equal(frozen.grads[i], all.grads[i])) << i;
    }
  }
}

TEST_P(SchemeTest, GradientsAccumulateOverMicroBatches) {
  for (const Memory memory : policies()) {
    TestStack s = make_stack({.scheme = GetParam(), .memory = memory});
    const Tensor a = input(), b = input() * 0.5;
    const Step first = run(s, a), second = run(s, b);
    for (Tensor p : s.parameters()) p.mutable_grad() = Tensor();
    s.stack->forward(a).square().sum().backward();
    s.stack->forward(b).square().sum().backward();
    const auto parameters = s.parameters();
    for (size_t i = 0; i < parameters.size(); ++i) {
      EXPECT_TRUE(at::equal(parameters[i].grad(), first.grads[i] + second.grads[i]));
    }
  }
}

TEST_P(SchemeTest, HooksOfParametersFireOncePerBackward) {
  for (const Memory memory : policies()) {
    TestStack s = make_stack({.scheme = GetParam(), .memory = memory});
    int fired = 0;
    const Tensor w = s.blocks[1][0]->in->weight;
    w.register_hook([&fired](const Tensor& g) {
      ++fired;
      return g * 2;
    });
    const Step hooked = run(s, input());
    EXPECT_EQ(fired, 1);
    TestStack same = make_stack({.scheme = GetParam(), .memory = memory});
    const Step free = run(same, input());
    const auto parameters = s.parameters();
    for (size_t i = 0; i < parameters.size(); ++i) {
      const bool is_w = parameters[i].is_same(w);
      EXPECT_TRUE(at::equal(hooked.grads[i], is_w ? free.grads[i] * 2 : free.grads[i])) << i;
    }
  }
}

TEST_P(SchemeTest, EveryPolicyGivesTheSameBits) {
  for (const at::ScalarType state : {at::kInt, at::kFloat}) {
    for (const bool bfloat16 : {false, true}) {
      for (const double dropout : {0.0, 0.1}) {
        const auto under = [&](Memory memory) {
          TestStack s = make_stack({.scheme = GetParam(),
                                    .n_layers = 4,
                                    .memory = memory,
                                    .state = state,
                                    .dropout = dropout});
          return run(s, input(), bfloat16);
        };
        const Step stored = under(Memory::Store);
        expect_same_bits(under(Memory::Checkpoint), stored);
        // Float states cannot be rebuilt bit for bit; the grid's must.
        if (GetParam() != "residual" && state == at::kInt)
          expect_same_bits(under(Memory::Invert), stored);
      }
    }
  }
}

TEST_P(SchemeTest, MixedPoliciesGiveTheSameBits) {
  const auto mixed = [&](const std::vector<Memory>& memory) {
    TestStack s =
        make_stack({.scheme = GetParam(), .n_layers = 5, .memory = Memory::Store, .dropout = 0.1});
    for (size_t l = 0; l < memory.size(); ++l)
      s.stack->set_memory(static_cast<int64_t>(l), memory[l]);
    return run(s, input(), true);
  };
  using enum Memory;
  const Step stored = mixed({Store, Store, Store, Store, Store});
  expect_same_bits(mixed({Store, Checkpoint, Store, Checkpoint, Checkpoint}), stored);
  if (GetParam() == "residual") return;
  expect_same_bits(mixed({Invert, Invert, Checkpoint, Invert, Invert}), stored);
  expect_same_bits(mixed({Store, Invert, Store, Invert, Store}), stored);
  expect_same_bits(mixed({Invert, Store, Checkpoint, Store, Invert}), stored);
  expect_same_bits(mixed({Checkpoint, Invert, Invert, Store, Checkpoint}), stored);
}

TEST_P(SchemeTest, SeveralBackwardsGiveTheSameBitsWhenRetained) {
  for (const Memory memory : policies()) {
    TestStack s =
        make_stack({.scheme = GetParam(), .n_layers = 3, .memory = memory, .dropout = 0.1});
    const Tensor x = input().requires_grad_();
    std::vector<Tensor> wanted = s.parameters();
    wanted.push_back(x);
    const Tensor loss = s.stack->forward(x).square().sum();
    const auto first = torch::autograd::grad({loss}, wanted, {}, /*retain_graph=*/true);
    const auto second = torch::autograd::grad({loss}, wanted, {}, /*retain_graph=*/true);
    const auto third = torch::autograd::grad({loss}, wanted);
    for (size_t i = 0; i < wanted.size(); ++i) {
      EXPECT_TRUE(at::equal(first[i], second[i]));
      EXPECT_TRUE(at::equal(first[i], third[i]));
    }
  }
}

TEST_P(SchemeTest, ABackwardWithoutRetainIsTheLast) {
  TestStack s = make_stack(
      {.scheme = GetParam(), .memory = GetParam() == "residual" ? Memory::Store : Memory::Invert});
  const Tensor x = input().requires_grad_();
  const Tensor y = s.stack->forward(x);
  y.sum().backward();
  EXPECT_THROW_WITH(y.sum().backward(), "second time");
}

TEST_P(SchemeTest, NoGradGivesTheSameResultAndKeepsNothing) {
  base::count_memory();
  TestStack s = make_stack(
      {.scheme = GetParam(), .memory = GetParam() == "residual" ? Memory::Store : Memory::Invert});
  const Tensor y = s.stack->forward(input());
  ASSERT_TRUE(y.requires_grad());
  const torch::NoGradGuard no_grad;
  const Tensor x = input();
  const int64_t before = base::memory_stats().live_bytes;
  const Tensor z = s.stack->forward(x);
  EXPECT_LT(base::memory_stats().live_bytes - before, 2 * static_cast<int64_t>(z.nbytes()));
  EXPECT_FALSE(z.requires_grad());
  EXPECT_TRUE(at::equal(y, z));
}

TEST_P(SchemeTest, SecondDerivativeIsRefused) {
  TestStack s = make_stack({.scheme = GetParam(),
                            .memory = GetParam() == "residual" ? Memory::Store : Memory::Invert,
                            .state = at::kDouble});
  const Tensor x = input(at::kDouble).requires_grad_();
  const Tensor loss = s.stack->forward(x).square().sum();
  EXPECT_THROW_WITH(torch::autograd::grad({loss}, {x}, {}, true, /*create_graph=*/true),
                    "no second derivative");
}

TEST_P(SchemeTest, TheNodeIsNamedAfterTheScheme) {
  TestStack s = make_stack(
      {.scheme = GetParam(), .memory = GetParam() == "residual" ? Memory::Store : Memory::Invert});
  const std::string expected =
      is_retrofit(GetParam()) ? "midpoint" : GetParam().substr(0, GetParam().find('-'));
  std::string name = s.stack->forward(input()).grad_fn()->name();
  std::transform(name.begin(), name.end(), name.begin(),
                 [](unsigned char c) { return std::tolower(c); });
  EXPECT_NE(name.find(expected + "function"), std::string::npos) << name;
}

INSTANTIATE_TEST_SUITE_P(Schemes, SchemeTest, ::testing::ValuesIn(kSchemes), name_of);

// Depth 1000, bfloat16 autocast. Each row sum of each rebuilt state is compared, so rows_differing
// == 0 over all rows says that every state came back; and gradients are those of storing. (Of
// hamiltonian-a, a stream grows without bound: see below.)
class DepthTest : public ::testing::TestWithParam<std::string> {
 protected:
  static void deep() {
    TestStack inverted = make_stack({.scheme = GetParam(), .n_layers = 1000});
    const Step step = run(inverted, input(), true);
    const Report report = inverted.stack->take_report();
    EXPECT_EQ(report.rows_differing, 0);
    EXPECT_GE(report.rows_checked, 1000 * 12);
    EXPECT_TRUE(step.grad_x.isfinite().all().item<bool>());
    TestStack stored =
        make_stack({.scheme = GetParam(), .n_layers = 1000, .memory = Memory::Store});
    expect_same_bits(step, run(stored, input(), true));
  }
};

TEST_P(DepthTest, AThousandLayersAreRebuiltInEveryBit) { deep(); }

INSTANTIATE_TEST_SUITE_P(Schemes, DepthTest,
                         ::testing::Values("midpoint", "midpoint-a", "leapfrog", "hamiltonian",
                                           "revffn"),
                         name_of);

TEST(DeepStackTest, FloatStatesDriftAndSayHowMuch) {
  TestStack s = make_stack({.scheme = "midpoint", .n_layers = 100, .state = at::kFloat});
  run(s, input(), true);
  const Report report = s.stack->take_report();
  EXPECT_EQ(report.rows_checked, 100 * 12);
  EXPECT_GT(report.rows_differing, 0);
}

TEST(StackTest, ResidualCannotInvert) {
  EXPECT_THROW_WITH(make_stack({.scheme = "residual"}),
                    "layer 0 of scheme residual cannot be inverted");
  TestStack s = make_stack({.scheme = "residual", .memory = Memory::Store});
  EXPECT_THROW_WITH(s.stack->set_memory(1, Memory::Invert), "layer 1 of scheme residual");
}

TEST(StackTest, RefusesWhatDoesNotFit) {
  const auto scheme = std::make_shared<schemes::Midpoint>();
  EXPECT_THROW_WITH(Stack(scheme, std::vector<FieldPtr>{}), "at least one layer");
  EXPECT_THROW_WITH(Stack(nullptr, std::vector<FieldPtr>{}), "a scheme is needed");
  EXPECT_THROW_WITH(Stack(scheme, std::vector<FieldPtr>{nullptr}),
                    "layer 0 has a field that is null");
  const FieldPtr f = field([](const Tensor& x) { return x; }, {});
  EXPECT_THROW_WITH(Stack(std::make_shared<schemes::Hamiltonian>(), std::vector<FieldPtr>{f}),
                    "layer 0 of scheme hamiltonian needs 2 fields, got 1");
  EXPECT_THROW_WITH(Stack(scheme, std::vector<FieldPtr>{f}, {Memory::Invert, {at::kInt, 40}, {}}),
                    "grid bits must be 1 to 30, got 40");
  Stack stack(scheme, std::vector<FieldPtr>{f});
  EXPECT_THROW_WITH(stack.forward(torch::zeros({2, 3}, at::kLong)), "floating point");
  EXPECT_THROW_WITH(stack.set_memory(1, Memory::Store), "expected a layer from 0 to 0, got 1");
  const Tensor elsewhere = torch::zeros({3}, torch::device(at::kMeta)).requires_grad_();
  Stack mixed(scheme, {field([](const Tensor& x) { return x; }, {elsewhere})});
  EXPECT_THROW_WITH(mixed.forward(torch::zeros({2, 3})),
                    "the input is on cpu but a parameter of shape [3] on meta");
  Stack wrong(scheme,
              std::vector<FieldPtr>{field([](const Tensor& x) { return x.narrow(-1, 0, 2); }, {})});
  EXPECT_THROW_WITH(wrong.forward(torch::zeros({2, 3})), "[2, 3]");
}

TEST(StackTest, SaturationNamesLayerAndStream) {
  std::vector<FieldPtr> fields;
  const Tensor w = torch::ones({1}).requires_grad_();
  for (int l = 0; l < 4; ++l) {
    const double size = l == 2 ? 1e6 : 1.0;
    fields.push_back(field([=](const Tensor& x) { return torch::full_like(x, size) * w; }, {w}));
  }
  Stack stack(std::make_shared<schemes::Midpoint>(), fields);
  for (const bool with_graph : {true, false}) {
    const at::AutoGradMode mode(with_graph);
    try {
      stack.forward(input());
      FAIL() << "nothing was thrown";
    } catch (const base::Saturated& error) {
      EXPECT_EQ(error.layer(), 2);
      EXPECT_EQ(error.stream(), 'p');
      EXPECT_STREQ(error.what(),
                   "midpoint: the state after layer 2, stream p, left the grid's range of +-2^15 "
                   "or is not a number");
    }
    EXPECT_THROW_WITH(stack.forward(input() * 1e6), "midpoint: the input left the grid's range");
    EXPECT_THROW_WITH(stack.forward(input() * NAN), "midpoint: the input left the grid's range");
  }
}

TEST(StackTest, AStreamThatGrowsWithoutBoundIsNoticed) {
  // a = 1.25 multiplies a stream by 1.25 a layer, until it leaves the range.
  TestStack s = make_stack({.scheme = "hamiltonian-a", .n_layers = 100});
  EXPECT_THROW(s.stack->forward(input()), base::Saturated);
}

TEST(StackTest, AParameterMadeFromOthersPassesItsGradientOn) {
  // w is not a leaf: the field reads 2 v, and v gets the gradient.
  const Tensor v = torch::randn({kChannels}, at::kDouble).requires_grad_();
  const Tensor w = v * 2;
  StackOptions options;
  options.state.dtype = at::kDouble;
  const FieldPtr f = field([w](const Tensor& x) { return torch::tanh(x * w); }, {w});
  Stack stack(std::make_shared<schemes::Midpoint>(), {f, f, f}, options);
  const Tensor x = input(at::kDouble);
  const auto found = torch::autograd::grad({stack.forward(x).sum()}, {v});
  const auto formula = [&] {
    const Tensor u = v * 2;
    const auto g = [&](const Tensor& t) { return torch::tanh(t * u); };
    const Tensor p1 = x + g(x), p2 = x + g(p1);
    return (p1 + g(p2)).sum();
  };
  const auto expected = torch::autograd::grad({formula()}, {v});
  EXPECT_TRUE(at::allclose(found[0], expected[0], 1e-12, 1e-12));  // other order of float64 sums
}

TEST(StackTest, FieldsThatCountInPlaceAreCaughtInEveryLayer) {
  for (const std::string& name : kInvertibleSchemes) {
    for (const int64_t n_layers : {1, 4}) {
      const auto scheme = make_scheme(name, n_layers);
      const int64_t per_layer = scheme->fields_per_layer();
      for (int64_t where = 0; where < n_layers * per_layer; ++where) {
        const Tensor calls = torch::zeros({1}), w = torch::ones({1}).requires_grad_();
        const auto value = [=](const Tensor& x, bool counts) {
          const torch::NoGradGuard no_grad;
          if (counts) calls.add_(1);
          return (x * 0.1 + calls.item<float>() * (counts ? 0.01 : 0.0)) * w.detach();
        };
        std::vector<std::vector<FieldPtr>> layers(static_cast<size_t>(n_layers));
        for (int64_t i = 0; i < n_layers * per_layer; ++i) {
          const bool counts = i == where;
          layers[static_cast<size_t>(i / per_layer)].push_back(
              name == "revffn" && i % 2 == 0
                  ? cross_field([=](const Tensor& a,
                                    const Tensor& b) { return value(a + b, counts) + 0.0 * w; },
                                {w})
                  : field([=](const Tensor& x) { return value(x, counts) + 0.0 * w; }, {w}));
        }
        Stack stack(scheme, layers);
        const Tensor y = stack.forward(input());
        try {
          y.sum().backward();
          FAIL() << name << ": a field that is not deterministic went unnoticed, " << where;
        } catch (const base::NotInvertible& error) {
          EXPECT_EQ(error.cause(), base::NotInvertible::Cause::Field) << error.what();
          EXPECT_EQ(error.layer(), where / per_layer) << error.what();
          EXPECT_EQ(error.rows(), 12);
          EXPECT_NE(std::string(error.what()).find("12 of 12 rows"), std::string::npos)
              << error.what();
        }
        EXPECT_FALSE(w.grad().defined());  // no wrong gradient was returned
      }
    }
  }
}

TEST(StackTest, ATensorThatIsReadAndNotListedIsRefused) {
  const Tensor listed = torch::ones({1}).requires_grad_(),
               other = torch::ones({3}).requires_grad_();
  const Tensor made = other * 2;  // not a leaf
  for (const Memory memory : {Memory::Store, Memory::Checkpoint, Memory::Invert}) {
    StackOptions options;
    options.memory = memory;
    for (const Tensor& unlisted : {other, made}) {
      const FieldPtr f =
          field([=](const Tensor& x) { return x * listed * unlisted.sum(); }, {listed});
      Stack stack(std::make_shared<schemes::Midpoint>(), std::vector<FieldPtr>{f}, options);
      EXPECT_THROW_WITH(stack.forward(input()).sum().backward(),
                        "reads a tensor of shape [3] that requires a gradient and is not among");
    }
    const FieldPtr f =
        field([=](const Tensor& x) { return x * listed * made.detach().sum(); }, {listed});
    Stack stack(std::make_shared<schemes::Midpoint>(), std::vector<FieldPtr>{f}, options);
    EXPECT_NO_THROW(stack.forward(input()).sum().backward());
  }
}

TEST(StackTest, ATensorThatIsReadAndNotListedIsRefusedWhereNothingElseNeedsAGradient) {
  const Tensor other = torch::ones({3}).requires_grad_();
  const auto reads = [](const Tensor& t) {
    return field([t](const Tensor& x) { return x * t.sum(); }, {});
  };
  const FieldPtr plain = field([](const Tensor& x) { return x; }, {});
  for (const Tensor& unlisted : {other, other * 2}) {
    Stack stack(std::make_shared<schemes::Midpoint>(), {plain, reads(unlisted)});
    EXPECT_THROW_WITH(stack.forward(input()),
                      "layer 1 reads a tensor of shape [3] that requires a gradient and is not");
    const torch::NoGradGuard no_grad;
    EXPECT_NO_THROW(stack.forward(input()));
  }
  Stack stack(std::make_shared<schemes::Midpoint>(), {plain, reads(other.detach())});
  EXPECT_FALSE(stack.forward(input()).requires_grad());
}

TEST(StackTest, APassThatNeedsNoGradientKeepsNoGraph) {
  base::count_memory();
  const FieldPtr deep = field(
      [](const Tensor& x) {
        Tensor y = x;
        for (int i = 0; i < 20; ++i) y = torch::tanh(y);
        return y;
      },
      {});
  Stack stack(std::make_shared<schemes::Midpoint>(), {deep, deep, deep});
  const Tensor x = torch::randn({64, 1024});
  const auto peak = [&](bool grad_mode) {
    const at::AutoGradMode mode(grad_mode);
    const int64_t before = base::memory_stats().live_bytes;
    base::reset_peak_memory();
    const Tensor y = stack.forward(x);
    EXPECT_LT(base::memory_stats().live_bytes - before, 2 * static_cast<int64_t>(y.nbytes()));
    return base::memory_stats().peak_bytes - before;
  };
  // The C library rounds each allocation by a few words.
  EXPECT_NEAR(static_cast<double>(peak(true)), static_cast<double>(peak(false)), 1024);
}

TEST(StackTest, AFieldThatChangesItsInputIsRefused) {
  const Tensor w = torch::ones({1}).requires_grad_();
  const auto in_place = [](const Tensor& x) { return torch::relu_(const_cast<Tensor&>(x)); };
  const FieldPtr plain = field([w](const Tensor& x) { return x * w; }, {w});
  for (const at::ScalarType state : {at::kInt, at::kFloat}) {
    StackOptions options;
    options.state.dtype = state;
    Stack stack(std::make_shared<schemes::Midpoint>(), {plain, field(in_place, {}), plain},
                options);
    const std::string expected = "a field of layer 1 changed its input in place";
    EXPECT_THROW_WITH(stack.forward(input()), expected);
    {
      const torch::NoGradGuard no_grad;
      EXPECT_THROW_WITH(stack.forward(input()), expected);
      const c10::InferenceMode inference;  // where tensors have no versions: nothing to see
      EXPECT_NO_THROW(stack.forward(input()));
    }
  }
}

TEST(StackTest, APullbackOfTheWrongLengthIsRefused) {
  struct Wrong : Field {
    Tensor w = torch::ones({1}).requires_grad_();
    size_t n;
    explicit Wrong(size_t n_gradients) : n(n_gradients) {}
    Tensor forward(at::TensorList x) override { return x[0] * 0.1; }
    std::vector<Tensor> parameters() const override { return {w}; }
    Linearised linearise(at::TensorList x, bool) override {
      return {forward(x).detach(),
              [this](const Tensor& g, bool) { return std::vector<Tensor>(n, g); }};
    }
  };
  for (const Memory memory : {Memory::Store, Memory::Checkpoint, Memory::Invert}) {
    for (const size_t n : {0, 1, 3}) {
      StackOptions options;
      options.memory = memory;
      Stack stack(std::make_shared<schemes::Midpoint>(),
                  std::vector<FieldPtr>{std::make_shared<Wrong>(n)}, options);
      EXPECT_THROW_WITH(stack.forward(input()).sum().backward(),
                        "layer 0, field 0: expected a gradient for each of 1 inputs and 1 "
                        "parameters, got " +
                            std::to_string(n));
    }
  }
}

TEST(StackTest, UndefinedParametersArePassedOver) {
  torch::nn::Linear linear(torch::nn::LinearOptions(kChannels, kChannels).bias(false));
  const auto fn = [linear](const Tensor& x) { return Tensor(torch::nn::Linear(linear)(x)) * 0.1; };
  const auto gradient = [&](const std::vector<Tensor>& parameters) {
    linear->weight.mutable_grad() = Tensor();
    Stack stack(std::make_shared<schemes::Midpoint>(),
                {field(fn, parameters), field(fn, parameters)});
    EXPECT_EQ(stack.layer_parameters(0).size(), 1u);
    stack.forward(input()).sum().backward();
    return linear->weight.grad();
  };
  EXPECT_TRUE(at::equal(gradient({linear->bias, linear->weight}), gradient({linear->weight})));

  struct Custom : Field {
    Tensor forward(at::TensorList x) override { return x[0]; }
    std::vector<Tensor> parameters() const override { return {Tensor()}; }
  };
  Stack stack(std::make_shared<schemes::Midpoint>(),
              std::vector<FieldPtr>{std::make_shared<Custom>()});
  EXPECT_THROW_WITH(stack.forward(input()), "a field of layer 0 lists a tensor that is undefined");
}

TEST(StackTest, LayersThatAreNotThereAreRefused) {
  TestStack s = make_stack({.n_layers = 3});
  for (const int64_t l : {-1, 3}) {
    const std::string expected = "expected a layer from 0 to 2, got " + std::to_string(l);
    EXPECT_THROW_WITH(s.stack->fields(l), expected);
    EXPECT_THROW_WITH(s.stack->memory(l), expected);
    EXPECT_THROW_WITH(s.stack->layer_parameters(l), expected);
    EXPECT_THROW_WITH(s.stack->set_memory(l, Memory::Store), expected);
  }
}

TEST(StackTest, AWeightChangedBeforeBackwardIsRefused) {
  for (const Memory memory : {Memory::Store, Memory::Checkpoint, Memory::Invert}) {
    TestStack s = make_stack({.scheme = "midpoint", .memory = memory});
    const Tensor y = s.stack->forward(input());
    {
      const torch::NoGradGuard no_grad;
      s.blocks[0][0]->in->weight.mul_(1.01);
    }
    EXPECT_THROW_WITH(y.sum().backward(), memory == Memory::Store
                                              ? "modified by an inplace operation"
                                              : "a parameter of layer 0 of shape [32, 16]");
  }
}

TEST(StackTest, AParameterListedTwiceIsReadOnceMore) {
  for (const bool leaf : {true, false}) {
    const Tensor v = torch::randn({kChannels}).requires_grad_();
    const Tensor w = leaf ? v : v * 2;
    for (const Memory memory : {Memory::Store, Memory::Invert}) {
      StackOptions options;
      options.memory = memory;
      const auto gradient = [&](const std::vector<Tensor>& parameters) {
        const FieldPtr f = field([w](const Tensor& x) { return torch::tanh(x * w); }, parameters);
        Stack stack(std::make_shared<schemes::Midpoint>(), {f, f}, options);
        const Tensor a = stack.forward(input()), b = stack.forward(input() * 2);
        return torch::autograd::grad({a.sum() + b.sum()}, {v}, {}, /*retain_graph=*/true)[0];
      };
      EXPECT_TRUE(at::equal(gradient({w, w}), gradient({w})));
    }
  }
}

TEST(StackTest, DropoutFromAForeignGeneratorIsCaught) {
  at::Generator own = at::detail::createCPUGenerator(1);
  const Tensor w = torch::ones({1}).requires_grad_();
  const FieldPtr noisy = field(
      [=](const Tensor& x) {
        return x * w * torch::rand(x.sizes(), own, x.options().requires_grad(false));
      },
      {w});
  Stack stack(std::make_shared<schemes::Midpoint>(), {noisy, noisy, noisy});
  const Tensor y = stack.forward(input());
  EXPECT_THROW(y.sum().backward(), base::NotInvertible);
}

TEST(StackTest, OneSchemeServesSeveralStacks) {
  const auto scheme = std::make_shared<schemes::MidpointA>(std::vector<double>{1, 0.5, -0.75}, 0.5);
  Block block(kChannels, 0.0, at::kFloat);
  const std::vector<FieldPtr> fields(3, field(block));
  Stack grid(scheme, fields);
  Stack floats(scheme, fields, {.memory = Memory::Store, .state = {at::kFloat}, .sink = {}});
  const Tensor x = input().requires_grad_();
  grid.forward(x).sum().backward();
  EXPECT_EQ(grid.take_report().rows_differing, 0);
  floats.forward(x).sum().backward();
  EXPECT_EQ(grid.state().digits, at::kInt);
  EXPECT_EQ(floats.state().digits, at::ScalarType::Undefined);
}

TEST(StackTest, ASinkGetsAParameterOfTwoFieldsOfALayerOnce) {
  const Tensor w = torch::randn({kChannels}).requires_grad_();
  const auto read = [w](double c) {
    return field([w, c](const Tensor& x) { return torch::tanh(x * w) * c; }, {w});
  };
  StackOptions options;
  int calls = 0;
  Tensor taken;
  const auto gradient = [&](const Sink& sink) {
    options.sink = sink;
    Stack stack(std::make_shared<schemes::Hamiltonian>(),
                std::vector<std::vector<FieldPtr>>{{read(0.5), read(0.3)}}, options);
    w.mutable_grad() = Tensor();
    stack.forward(input()).square().sum().backward();
    return w.grad();
  };
  const Tensor expected = gradient({});
  const Tensor left = gradient([&](int64_t, std::vector<Tensor>& grads) {
    ++calls;
    ASSERT_EQ(grads.size(), 1u);
    taken = grads[0];
    grads[0] = Tensor();
  });
  EXPECT_EQ(calls, 1);
  EXPECT_TRUE(at::equal(taken, expected));
  EXPECT_FALSE(left.defined());
}

TEST(StackTest, RevFFNGrownButContractingStillInverts) {
  for (const bool bfloat16 : {false, true}) {
    const auto under = [&](Memory memory) {
      TestStack s = make_stack({.scheme = "revffn", .n_layers = 4, .memory = memory});
      {
        const torch::NoGradGuard no_grad;
        for (const auto& layer : s.blocks) Block(layer[0])->out->weight.mul_(12);
      }
      const Step step = run(s, input(), bfloat16);
      if (memory == Memory::Invert) {
        const Report report = s.stack->take_report();
        EXPECT_EQ(report.rows_checked, 4 * 2 * 12);
        EXPECT_EQ(report.rows_differing, 0);
        // Not the few percent and two evaluations of new weights; bfloat16's 16 bits stop earlier.
        EXPECT_GT(report.contraction, bfloat16 ? 0.1 : 0.3);
        EXPECT_GT(report.evaluations, bfloat16 ? 3 : 5);
      }
      return step;
    };
    expect_same_bits(under(Memory::Invert), under(Memory::Store));
  }
}

TEST(StackTest, RevFFNBeyondContractionNamesTheLayerAndStoringItHelps) {
  const auto grown = [] {
    TestStack s = make_stack({.scheme = "revffn", .n_layers = 3});
    const torch::NoGradGuard no_grad;
    s.blocks[1][0]->out->weight.mul_(60);
    return s;
  };
  TestStack s = grown();
  const Tensor x = input();
  try {
    run(s, x);
    FAIL() << "a map that does not contract was inverted";
  } catch (const base::NotInvertible& error) {
    EXPECT_EQ(error.cause(), base::NotInvertible::Cause::FixedPoint);
    EXPECT_EQ(error.layer(), 1);
    EXPECT_GT(error.contraction(), 1.0);
    EXPECT_GT(error.rows(), 0);
    s.stack->set_memory(error.layer(), Memory::Checkpoint);
  }
  const Step repeated = run(s, x);
  TestStack stored = grown();
  for (int64_t l = 0; l < 3; ++l) stored.stack->set_memory(l, Memory::Store);
  expect_same_bits(repeated, run(stored, x));
}

TEST(StackTest, RevFFNSettlesOnFloatStatesUnderAutocastAndReportsItsDrift) {
  TestStack s = make_stack({.scheme = "revffn", .n_layers = 3, .state = at::kFloat});
  TestStack stored =
      make_stack({.scheme = "revffn", .n_layers = 3, .memory = Memory::Store, .state = at::kFloat});
  const Step inverted = run(s, input(), true), exact = run(stored, input(), true);
  EXPECT_GT(s.stack->take_report().rows_checked, 0);
  // Each of three layers is rebuilt to within bfloat16's rounding of its field, 2^-7.
  EXPECT_TRUE(at::allclose(inverted.grad_x, exact.grad_x, 0,
                           3 * 0x1p-7 * exact.grad_x.abs().max().item<double>()));
}

TEST(StackTest, WithoutSkipTakesTheSkipOutOfABlock) {
  Block block(kChannels, 0.0, at::kDouble);
  struct WithSkip : torch::nn::Module {
    explicit WithSkip(Block inner) : block(register_module("block", std::move(inner))) {}
    Tensor forward(const Tensor& x) { return x + block(x); }
    Block block;
  };
  const auto skip = std::make_shared<WithSkip>(block);
  const Tensor x = input(at::kDouble);
  const FieldPtr f = without_skip(skip);
  EXPECT_TRUE(
      at::allclose(f->forward({x}), block(x), 0, 1e-14));  // one subtraction of numbers below 8
  EXPECT_EQ(f->parameters().size(), block->parameters().size());
}

TEST(StackTest, RowSumsAndGeneratorsAreAllThatExactnessKeeps) {
  TestStack s = make_stack({.scheme = "midpoint", .n_layers = 9});
  run(s, input());
  const int64_t generator = 5056;      // one state of the CPU's generator
  const int64_t sums = 8 * 12;         // rows are 2 x 6
  const int64_t found = 2 * (4 + 80);  // a flag and a record for each of a layer's streams
  EXPECT_EQ(s.stack->take_report().witness_bytes, 9 * (sums + found) + 2 * 4 + generator);
}

}  // namespace
}  // namespace rev::engine
