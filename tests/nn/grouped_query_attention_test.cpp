#include "rev/nn/grouped_query_attention.h"

#include <cmath>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "rev/base/autocast_state.h"
#include "rev/nn/attention.h"
#include "rev/nn/key_value_cache.h"
#include "support/gradcheck.h"
#include "support/throws.h"

namespace rev::nn {
namespace {

using at::Tensor;

constexpr int64_t kChannels = 10, kHeads = 6, kKvHeads = 2, kWidth = 4;

GroupedQueryAttention random_attention(at::ScalarType dtype = at::kDouble, bool with_bias = true) {
  torch::manual_seed(15);
  GroupedQueryAttentionOptions options;
  options.channels = kChannels;
  options.heads = kHeads;
  options.kv_heads = kKvHeads;
  options.rotary.width = kWidth;
  options.with_bias = with_bias;
  GroupedQueryAttention attention(options);
  attention->to(dtype);
  const torch::NoGradGuard no_grad;
  for (Tensor& p : attention->parameters()) p.normal_(0, 0.5);
  return attention;
}

// Attn(x) in float64, token by token and head by head.
Tensor reference(GroupedQueryAttention& attention, const Tensor& x) {
  const Tensor w = rotary_frequencies({kWidth}).to(at::kDouble);
  const auto project = [&](Projection& map, const Tensor& t) {
    return map->weight.matmul(t) + map->bias;
  };
  const auto head = [](const Tensor& t, int64_t h) { return t.narrow(0, h * kWidth, kWidth); };
  const auto turned = [&](const Tensor& t, int64_t place) {
    const Tensor angle = w * static_cast<double>(place);
    const Tensor a = t.narrow(0, 0, 2), b = t.narrow(0, 2, 2);
    return at::cat({a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()});
  };
  Tensor y = torch::zeros_like(x);
  for (int64_t b = 0; b < x.size(0); ++b) {
    for (int64_t t = 0; t < x.size(1); ++t) {
      std::vector<Tensor> heads;
      for (int64_t h = 0; h < kHeads; ++h) {
        const int64_t kv = h / (kHeads / kKvHeads);
        const Tensor q = turned(head(project(attention->q_proj, x[b][t]), h), t);
        std::vector<Tensor> scores, values;
        for (int64_t s = 0; s <= t; ++s) {
          const Tensor k = turned(head(project(attention->k_proj, x[b][s]), kv), s);
          scores.push_back(q.dot(k) / std::sqrt(static_cast<double>(kWidth)));
          values.push_back(head(project(attention->v_proj, x[b][s]), kv));
        }
        const Tensor weights = torch::softmax(at::stack(scores), 0);
        heads.push_back(weights.matmul(at::stack(values)));
      }
      y[b][t].copy_(project(attention->o_proj, at::cat(heads)));
    }
  }
  return y;
}

TEST(GroupedQueryAttentionTest, IsTheFormula) {
  GroupedQueryAttention attention = random_attention();
  const torch::NoGradGuard no_grad;
  const Tensor x = torch::randn({2, 5, kChannels}, at::kDouble);
  // The frequencies are float32's in both. Sums of at most 24 terms of size 1 in float64, through
  // three products: 1e-15 * 100.
  EXPECT_TRUE(at::allclose(attention->forward(x), reference(attention, x), 0, 1e-13));
}

TEST(GroupedQueryAttentionTest, GradientsAreThoseOfDifferences) {
  for (const bool with_bias : {true, false}) {
    GroupedQueryAttention attention = random_attention(at::kDouble, with_bias);
    EXPECT_EQ(attention->parameters().size(), with_bias ? 8u : 4u);
    const Tensor x = support::leaf({2, 4, kChannels});
    std::vector<Tensor> inputs = attention->parameters();
    inputs.push_back(x);
    EXPECT_LT(support::gradient_error([&] { return attention->forward(x); }, inputs),
              support::kGradientTolerance);
  }
}

TEST(GroupedQueryAttentionTest, GradientsDoNotNeedTheValueAndRepeatTheirBits) {
  GroupedQueryAttention attention = random_attention(at::kFloat);
  const Tensor x = support::leaf({2, 9, kChannels}, at::kFloat);
  std::vector<Tensor> inputs = attention->parameters();
  inputs.push_back(x);
  for (const bool bf16 : {false, true}) {
    const base::AutocastGuard autocast({c10::kCPU, bf16, at::kBFloat16});
    std::vector<std::vector<Tensor>> grads;
    for (const bool need_value : {true, false, true}) {
      const Tensor y = attention->forward(x, need_value);
      EXPECT_EQ(y.sizes(), x.sizes());
      EXPECT_EQ(y.scalar_type(), bf16 ? at::kBFloat16 : at::kFloat);
      grads.push_back(torch::autograd::grad({y}, inputs, {torch::ones_like(y)}));
    }
    for (size_t i = 0; i < inputs.size(); ++i) {
      EXPECT_TRUE(at::equal(grads[0][i], grads[1][i])) << i;
      EXPECT_TRUE(at::equal(grads[0][i], grads[2][i])) << i;
      EXPECT_GT(grads[0][i].abs().max().item<double>(), 0) << i;
    }
  }
}

TEST(GroupedQueryAttentionTest, DropoutsOwnPathSharesHeadsAlike) {
  torch::manual_seed(16);
  const Tensor q = torch::randn({2, 6, 9, 4}, at::kDouble),
               k = torch::randn({2, 2, 9, 4}, at::kDouble), v = torch::randn_like(k);
  // A probability of 1e-15 scales by 1 + 1e-15 and drops nothing in 1000 draws.
  EXPECT_TRUE(at::allclose(causal_attention(q, k, v, 1e-15), causal_attention(q, k, v), 0, 1e-13));
  EXPECT_THROW_WITH(causal_attention(q, torch::ones({2, 4, 9, 4}), v),
                    "4 heads of keys do not divide 6 of queries");
}

TEST(GroupedQueryAttentionTest, RefusesHeadsThatDoNotDivide) {
  GroupedQueryAttentionOptions options{8, 4, 3, {4}};
  EXPECT_THROW_WITH(GroupedQueryAttention(options), "3 heads of keys do not divide 4 of queries");
}

// The whole text, in pieces of these sizes.
template <class Module>
Tensor in_pieces(Module& attention, const Tensor& x, const std::vector<int64_t>& sizes) {
  KeyValueCache cache;
  std::vector<Tensor> pieces;
  for (const int64_t n : sizes) {
    KeyValueCache::Scope scope(cache);
    pieces.push_back(attention->forward(x.narrow(1, cache.size(), n)));
    scope.commit();
  }
  EXPECT_EQ(cache.size(), x.size(1));
  return at::cat(pieces, 1);
}

TEST(KeyValueCacheTest, PiecesOfATextAreTheWhole) {
  GroupedQueryAttention grouped = random_attention();
  Attention attention(AttentionOptions{10, 5, 0.0, true});
  attention->to(at::kDouble);
  const torch::NoGradGuard no_grad;
  const Tensor x = torch::randn({2, 150, kChannels}, at::kDouble);
  for (const std::vector<int64_t>& sizes :
       {std::vector<int64_t>{150}, {1, 149}, {70, 1, 1, 78}, {3, 60, 1, 1, 80, 5}}) {
    // Sums of at most 150 terms of size 1 in float64, through three products, in two orders.
    EXPECT_TRUE(at::allclose(in_pieces(grouped, x, sizes), grouped->forward(x), 0, 1e-13));
    EXPECT_TRUE(at::allclose(in_pieces(attention, x, sizes), attention->forward(x), 0, 1e-13));
  }
}

TEST(KeyValueCacheTest, EachEvaluationHasItsOwnAndWhatIsNotCommittedIsForgotten) {
  GroupedQueryAttention attention = random_attention();
  const torch::NoGradGuard no_grad;
  const Tensor x = torch::randn({1, 6, kChannels}, at::kDouble), y = torch::randn_like(x);
  KeyValueCache cache;
  {
    KeyValueCache::Scope scope(cache);
    attention->forward(x.narrow(1, 0, 4));
    attention->forward(y.narrow(1, 0, 4));
    scope.commit();
  }
  const Tensor next = x.narrow(1, 4, 2);
  const Tensor whole_x = attention->forward(x);
  const Tensor whole_y = attention->forward(at::cat({y.narrow(1, 0, 4), next}, 1));
  for (const bool commit : {false, true}) {
    KeyValueCache::Scope scope(cache);
    EXPECT_EQ(KeyValueCache::position(), 4);
    const Tensor after_x = attention->forward(next), after_y = attention->forward(next);
    EXPECT_TRUE(at::allclose(after_x, whole_x.narrow(1, 4, 2), 0, 1e-13));
    EXPECT_TRUE(at::allclose(after_y, whole_y.narrow(1, 4, 2), 0, 1e-13));
    if (commit) scope.commit();
  }
  EXPECT_EQ(KeyValueCache::position(), 0);
  EXPECT_EQ(cache.size(), 6);
}

TEST(KeyValueCacheTest, NamesWhatIsWrong) {
  GroupedQueryAttention attention = random_attention();
  const Tensor x = torch::randn({1, 3, kChannels}, at::kDouble);
  KeyValueCache cache;
  {
    KeyValueCache::Scope scope(cache);
    EXPECT_THROW_WITH(attention->forward(x), "evaluation without gradients, which are on");
  }
  const torch::NoGradGuard no_grad;
  {
    KeyValueCache::Scope scope(cache);
    attention->forward(x);
    scope.commit();
  }
  KeyValueCache::Scope scope(cache);
  EXPECT_THROW_WITH(attention->forward(x.repeat({2, 1, 1})), "a batch of 2 after one of 1");
  EXPECT_THROW_WITH(attention->forward(x), "attention is evaluated more than 1 times");
}

}  // namespace
}  // namespace rev::nn
