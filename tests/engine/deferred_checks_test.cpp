// Stacks whose passes do not wait for the device: what they would have thrown is asked for later.
#include "engine/stacks.h"
#include "rev/base/error.h"
#include "support/throws.h"

namespace rev::engine {
namespace {

using at::Tensor;

Tensor input() {
  torch::manual_seed(5);
  return torch::randn({2, 3, kChannels});
}

class DeferredChecksTest : public ::testing::TestWithParam<std::string> {};

TEST_P(DeferredChecksTest, TheBitsAreThoseOfChecksThatWait) {
  TestStack waits = make_stack({.scheme = GetParam(), .dropout = 0.1});
  TestStack defers = make_stack({.scheme = GetParam(), .dropout = 0.1, .defer_checks = true});
  expect_same_bits(run(waits, input()), run(defers, input()));
  EXPECT_EQ(defers.stack->flaw().item<int>(), 0);
  defers.stack->check();
  const Report waited = waits.stack->take_report(), deferred = defers.stack->take_report();
  EXPECT_EQ(deferred.rows_checked, waited.rows_checked);
  EXPECT_GT(deferred.rows_checked, 0);
  EXPECT_EQ(deferred.rows_differing, 0);
}

INSTANTIATE_TEST_SUITE_P(Schemes, DeferredChecksTest, ::testing::ValuesIn(kInvertibleSchemes),
                         [](const auto& c) { return test_name(c.param); });

// Field `wrong` of n gives another value each time.
Stack counting_stack(int64_t n, int64_t wrong) {
  std::vector<FieldPtr> fields;
  for (int64_t l = 0; l < n; ++l) {
    const Tensor calls = torch::zeros({});
    const bool counts = l == wrong;
    fields.push_back(field(
        [=](const Tensor& x) {
          if (counts) calls.add_(1);
          return 0.1 * x + 0.01 * calls.item<float>();
        },
        {}));
  }
  StackOptions options;
  options.defer_checks = true;
  return Stack(std::make_shared<schemes::Midpoint>(), fields, options);
}

TEST(DeferredChecksTest, RowsThatDifferAreAFlawUntilTheyAreChecked) {
  Stack stack = counting_stack(4, 2);
  stack.forward(input().requires_grad_()).sum().backward();
  EXPECT_NE(stack.flaw().item<int>(), 0);
  EXPECT_THROW_WITH(stack.check(), "midpoint: layer 2, stream q: 6 of 6 rows were not rebuilt");
  EXPECT_EQ(stack.flaw().item<int>(), 0);
  stack.check();
  EXPECT_GT(stack.take_report().rows_differing, 0);
}

// RevFFN, whose field g of layer 1 gives another value each time while `counts`.
struct CountingRevFFN {
  std::shared_ptr<bool> counts = std::make_shared<bool>(true);
  Stack stack;

  CountingRevFFN() : stack(make()) {}

  Stack make() const {
    const Tensor w = torch::full({1}, 0.1).requires_grad_();
    std::vector<std::vector<FieldPtr>> layers;
    for (int64_t l = 0; l < 3; ++l) {
      const Tensor calls = torch::zeros({});
      layers.push_back(
          {cross_field([w](const Tensor& a, const Tensor& b) { return w * (a + b); }, {w}),
           field(
               [=, counts = counts](const Tensor& x) {
                 if (l == 1 && *counts) calls.add_(1);
                 return x * w + 0.01 * calls.item<float>();
               },
               {w})});
    }
    StackOptions options;
    options.defer_checks = true;
    return Stack(std::make_shared<schemes::RevFFN>(), layers, options);
  }
};

TEST(DeferredChecksTest, RevFFNNamesTheLayerWhoseSecondFieldDiffers) {
  CountingRevFFN s;
  s.stack.forward(input().requires_grad_()).sum().backward();
  EXPECT_NE(s.stack.flaw().item<int>(), 0);
  EXPECT_THROW_WITH(s.stack.check(), "revffn: layer 1, stream p: 6 of 6 rows were not rebuilt");
}

TEST(DeferredChecksTest, TheContractionOfPassesThatWereCheckedIsForgotten) {
  CountingRevFFN s;
  *s.counts = false;
  const Tensor x = input().requires_grad_();
  s.stack.forward(x).sum().backward();
  s.stack.forward(x * 1e6);
  EXPECT_THROW(s.stack.check(), base::Saturated);
  *s.counts = true;
  s.stack.forward(x).sum().backward();
  try {
    s.stack.check();
    FAIL() << "nothing was thrown";
  } catch (const base::NotInvertible& error) {
    EXPECT_EQ(error.layer(), 1);
    EXPECT_EQ(error.contraction(), 0.0);  // g is refuted before anything is iterated
  }
}

TEST(DeferredChecksTest, ThePassesOfSeveralMicroBatchesGather) {
  Stack stack = counting_stack(3, 1);
  const Tensor x = input().requires_grad_();
  const Tensor first = stack.forward(x), second = stack.forward(x);
  first.sum().backward();
  second.sum().backward();
  EXPECT_THROW_WITH(stack.check(), "12 of 12 rows");
}

TEST(DeferredChecksTest, StatesThatLeaveTheGridAreAFlawUntilTheyAreChecked) {
  Stack stack = counting_stack(2, -1);
  const Tensor y = stack.forward((input() * 1e6).requires_grad_());
  EXPECT_NE(stack.flaw().item<int>(), 0);
  EXPECT_THROW_WITH(stack.check(), "midpoint: the input left the grid's range");
  EXPECT_EQ(stack.flaw().item<int>(), 0);
  {
    const at::NoGradGuard no_graph;
    stack.forward(input() * NAN);
  }
  EXPECT_THROW(stack.check(), base::Saturated);
}

TEST(DeferredChecksTest, FlawNeedsAPass) {
  Stack stack = counting_stack(2, -1);
  EXPECT_THROW_WITH(stack.flaw(), "there was none");
  stack.check();
  TestStack waits = make_stack({});
  waits.stack->forward(input());
  EXPECT_THROW_WITH(waits.stack->flaw(), "deferred");
}

}  // namespace
}  // namespace rev::engine
