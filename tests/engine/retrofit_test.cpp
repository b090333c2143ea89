// Residual layers under midpoint(a). (Formula, gradients, the same bits under every policy: the
// schemes retrofit-0, -1 and -2 in stack_test.cpp.)
#include "rev/engine/retrofit.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "engine/stacks.h"
#include "support/throws.h"

namespace rev::engine {
namespace {

using at::Tensor;

// f_l(p) = sin(w_l p) / 4, which contracts, and how often it was evaluated.
struct Fields {
  explicit Fields(int64_t n_layers) {
    for (int64_t l = 0; l < n_layers; ++l) {
      const double w = 1 + 0.3 * static_cast<double>(l % 3);
      const auto f = [this, w](const Tensor& x) {
        ++evaluations;
        return torch::sin(w * x) / 4;
      };
      all.push_back(field(f, {}));
    }
  }
  Tensor run(const RetrofitOptions& options, const Tensor& x) {
    const Retrofit made = retrofit(all, options);
    StackOptions stack;
    stack.state.dtype = at::kDouble;
    return Stack(made.scheme, made.fields, stack).forward(x);
  }
  std::vector<FieldPtr> all;
  int evaluations = 0;
};

TEST(RetrofitTest, WithThePointBeforeFoundItIsTheOriginalWhateverTheWeights) {
  const int64_t n = 6;
  Fields fields(n);
  torch::manual_seed(1);
  const Tensor x = torch::randn({2, 3, 4}, at::kDouble);
  Tensor original = x;
  for (const FieldPtr& f : fields.all) original = original + f->forward({original});
  const std::vector<double> a = {1, -1.5, 0.75, -1, 2, 1.25};
  const auto distance = [&](int64_t inner) {
    return (fields.run({a, inner}, x) - original).abs().max().item<double>();
  };
  // f contracts by 1.6 / 4: an iteration leaves at most 0.4 of the error, 60 leave 2e-24 of it.
  // Then roundings remain, which layers of |a| <= 2 multiply.
  EXPECT_LT(distance(60), 1e-12);
  EXPECT_LT(distance(4), distance(2));
  EXPECT_LT(distance(2), distance(1));
  EXPECT_GT(distance(1), 1e-3);
}

// f_l(p) = p A: the second point is a A^(2 + inner) p from the original's, with a sign of inner's
// (arXiv 2512.02056, eq 33 to 35).
TEST(RetrofitTest, OfLinearFieldsTheDistanceIsEquation35) {
  torch::manual_seed(2);
  const Tensor A = 0.3 * torch::randn({4, 4}, at::kDouble), p = torch::randn({5, 4}, at::kDouble);
  const std::vector<FieldPtr> fields(2, field([A](const Tensor& x) { return x.matmul(A); }, {}));
  const Tensor p1 = p + p.matmul(A), original = p1 + p1.matmul(A);
  const double a = -0.75;
  Tensor expected = a * p.matmul(A).matmul(A);
  for (const int64_t inner : {1, 2, 3}) {
    expected = -expected.matmul(A);
    const Retrofit made = retrofit(fields, {{a}, inner});
    StackOptions options;
    options.state.dtype = at::kDouble;
    const Tensor off = Stack(made.scheme, made.fields, options).forward(p) - original;
    EXPECT_TRUE(at::allclose(off, expected, 0, 1e-14)) << inner;  // 100 roundings of size 1
  }
}

TEST(RetrofitTest, SmallerWeightsAreNearer) {
  Fields fields(6);
  torch::manual_seed(1);
  const Tensor x = torch::randn({2, 3, 4}, at::kDouble);
  Tensor original = x;
  for (const FieldPtr& f : fields.all) original = original + f->forward({original});
  for (const int64_t inner : {0, 1}) {
    double before = std::numeric_limits<double>::infinity();
    for (const double a : {-0.5, -0.25, -0.125, -0.0625}) {
      const double distance = (fields.run({{a}, inner}, x) - original).abs().max().item<double>();
      EXPECT_LT(distance, before) << a << " " << inner;
      before = distance;
    }
  }
}

TEST(RetrofitTest, TakesTheEvaluationsThatItSays) {
  const int64_t n = 5;
  for (const int64_t inner : {0, 1, 3}) {
    Fields fields(n);
    fields.run({{0.25}, inner}, torch::randn({1, 2, 4}, at::kDouble));
    const int64_t each = inner == 0 ? 1 : 2 + inner;
    EXPECT_EQ(fields.evaluations, 1 + (n - 1) * each);
  }
}

TEST(RetrofitTest, WeightsOfPowersOfTwoKeepTheirBitsLayerByLayer) {
  const int64_t n = 100, places = 3;  // 297 bits: no buffer for the whole stack would hold them
  TestStack s = make_stack({.scheme = "retrofit-0", .n_layers = n, .channels = 64});
  torch::manual_seed(5);
  run(s, torch::randn({2, 6, 64}));
  const Report inverted = s.stack->take_report();
  EXPECT_EQ(inverted.rows_differing, 0);
  TestStack whole = make_stack({.scheme = "midpoint", .n_layers = n, .channels = 64});
  run(whole, torch::randn({2, 6, 64}));
  const int64_t elements = 2 * 6 * 64;
  EXPECT_EQ(inverted.witness_bytes - whole.stack->take_report().witness_bytes,
            (n - 1) * elements * places / 8);
}

TEST(RetrofitTest, RefusesWhatDoesNotFit) {
  Fields fields(3);
  EXPECT_THROW_WITH(retrofit({}, {{0.5}}), "expected at least one layer");
  EXPECT_THROW_WITH(retrofit(fields.all, {{0.5, 0.5}}),
                    "3 layers need one weight a or as many, got 2");
  EXPECT_THROW_WITH(retrofit(fields.all, {}), "3 layers need one weight a or as many, got 0");
  EXPECT_THROW_WITH(retrofit(fields.all, {{0.5}, -1}), "inner is -1, expected none below 0");
  EXPECT_THROW_WITH(retrofit(fields.all, {{0}}), "a = 0 has no inverse");
  EXPECT_THROW_WITH(retrofit(fields.all, {{-1}}),
                    "with a = -1 and inner = 0 layer 1 would do nothing");
  EXPECT_EQ(retrofit(fields.all, {{-1}, 1}).scheme->a(1), -1);
}

}  // namespace
}  // namespace rev::engine
