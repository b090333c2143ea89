#include "rev/retrofit/comparison.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "retrofit/models.h"
#include "rev/kernels/cross_entropy.h"
#include "support/throws.h"

namespace rev::retrofit {
namespace {

using at::Tensor;

std::vector<TextBatch> text(int64_t n_batches = 2) {
  std::vector<TextBatch> batches;
  for (int64_t i = 0; i < n_batches; ++i) {
    batches.push_back({torch::randint(31, {3, 12}), torch::randint(31, {3, 12})});
  }
  batches[0].targets[1].slice(0, 5).fill_(kernels::kIgnoreIndex);
  return batches;
}

TEST(ComparisonTest, IsTheFormulasOverAllBatches) {
  torch::manual_seed(3);
  Pair pair(small_config(), retrofit_with({-0.5}));
  const std::vector<TextBatch> batches = text();
  const Comparison found = compare(*pair.original, *pair.converted, batches);

  const torch::NoGradGuard no_graph;
  std::vector<Tensor> p, q, targets;
  for (const auto& [tokens, target] : batches) {
    p.push_back(pair.original->forward(tokens).flatten(0, 1));
    q.push_back(pair.converted->forward(tokens).flatten(0, 1));
    targets.push_back(target.flatten());
  }
  const Tensor target = torch::cat(targets), counts = target.ne(kernels::kIgnoreIndex);
  const auto kept = [&](const std::vector<Tensor>& logits) {
    return torch::log_softmax(torch::cat(logits).to(torch::kDouble), 1).index({counts});
  };
  const Tensor log_p = kept(p), log_q = kept(q), own = target.index({counts}).unsqueeze(1);
  EXPECT_EQ(found.tokens, 72 - 7);
  // Logits of size 1 to 10 in float32, sums of 31 terms: some 1e-6 a token, no more in their mean.
  EXPECT_NEAR(found.kl, (log_p.exp() * (log_p - log_q)).sum(1).mean().item<double>(), 1e-5);
  EXPECT_NEAR(found.original_loss, -log_p.gather(1, own).mean().item<double>(), 1e-5);
  EXPECT_NEAR(found.converted_loss, -log_q.gather(1, own).mean().item<double>(), 1e-5);
  EXPECT_EQ(found.agreement,
            log_p.argmax(1).eq(log_q.argmax(1)).to(torch::kDouble).mean().item<double>());
  EXPECT_GT(found.kl, 1e-3);
  EXPECT_LT(found.agreement, 1);
}

TEST(ComparisonTest, LayersDifferFromTheSecondOnAndLessWhereWeightsAreSmaller) {
  torch::manual_seed(3);
  const std::vector<TextBatch> batches = text();
  const auto errors = [&](double a) {
    torch::manual_seed(4);
    Pair pair(small_config(), retrofit_with({a}));
    return compare(*pair.original, *pair.converted, batches).layer_error;
  };
  const std::vector<double> large = errors(-0.5), small = errors(-0.125);
  ASSERT_EQ(large.size(), 4u);
  for (const std::vector<double>& e : {large, small}) {
    // Layer 0 is the original's but for the grid, whose cells are 2^-16 of values of size 0.1.
    EXPECT_LT(e[0], 1e-3);
    EXPECT_GT(e[1], 10 * e[0]);
  }
  for (size_t l = 1; l < 4; ++l) EXPECT_LT(small[l], large[l]) << l;
}

TEST(ComparisonTest, OfAModelWithItselfIsNothing) {
  torch::manual_seed(5);
  Pair pair(small_config(), small_config());
  const Comparison found = compare(*pair.original, *pair.converted, text());
  EXPECT_EQ(found.kl, 0);
  EXPECT_EQ(found.agreement, 1);
  EXPECT_EQ(found.converted_loss, found.original_loss);
  EXPECT_EQ(found.layer_error, std::vector<double>(4, 0.0));
}

TEST(ComparisonTest, RefusesWhatDoesNotFit) {
  torch::manual_seed(6);
  Pair pair(small_config(), retrofit_with({-0.5}));
  const auto other = [&](const auto& change) {
    models::LlamaConfig config = small_config();
    change(config);
    return models::Llama(config);
  };
  EXPECT_THROW_WITH(compare(*pair.original, *other([](auto& c) { c.vocab = 30; }), text()),
                    "the original has 31 tokens in its vocabulary, the converted model 30");
  EXPECT_THROW_WITH(compare(*pair.original, *other([](auto& c) { c.layers = 3; }), text()),
                    "the original has 4 layers, the converted model 3");
  EXPECT_THROW_WITH(compare(*pair.original, *other([](auto& c) { c.channels = 12; }), text()),
                    "the original has 16 channels, the converted model 12");
  EXPECT_THROW_WITH(compare(*pair.original, *pair.converted, {}), "there is no token to predict");
}

}  // namespace
}  // namespace rev::retrofit
