#include "rev/models/generate.h"

#include <algorithm>
#include <gtest/gtest.h>
#include <set>
#include <torch/torch.h>

#include "rev/models/gpt2.h"
#include "support/throws.h"

namespace rev::models {
namespace {

using at::Tensor;

Gpt2 small() {
  torch::manual_seed(61);
  Gpt2Config config;
  config.layers = 2;
  config.heads = 2;
  config.channels = 16;
  config.seq = 8;
  config.vocab = 23;
  config.dropout = 0.5;
  Gpt2 model(config);
  const torch::NoGradGuard no_grad;
  for (Tensor& p : model->parameters()) p.mul_(20);  // far from uniform
  return model;
}

TEST(GenerateTest, IsAFunctionOfItsSeedAndLeavesTheRestAlone) {
  Gpt2 model = small();
  const Tensor before = at::detail::getDefaultCPUGenerator().get_state();
  const SamplingOptions options{20, 1.0, 0, 7};
  const auto a = generate(*model, {1, 2, 3}, options);
  EXPECT_EQ(a.size(), 20u);
  EXPECT_EQ(a, generate(*model, {1, 2, 3}, options));
  EXPECT_NE(a, generate(*model, {1, 2, 3}, {20, 1.0, 0, 8}));
  EXPECT_TRUE(at::equal(before, at::detail::getDefaultCPUGenerator().get_state()));
  EXPECT_TRUE(model->is_training());
}

TEST(GenerateTest, WithoutTemperatureTakesTheLikeliestTokenOfTheWindow) {
  Gpt2 model = small();
  std::vector<int64_t> text = {4, 5};
  const auto tokens = generate(*model, text, {12, 0.0, 0, 0});
  EXPECT_EQ(tokens, generate(*model, text, {12, 3.0, /*top_k=*/1, 9}));
  model->eval();
  const torch::NoGradGuard no_grad;
  for (const int64_t token : tokens) {
    const size_t begin = text.size() > 8 ? text.size() - 8 : 0;
    const std::vector<int64_t> window(text.begin() + static_cast<std::ptrdiff_t>(begin),
                                      text.end());
    const Tensor logits = model->forward(torch::tensor(window).unsqueeze(0));
    EXPECT_EQ(token, logits[0][-1].argmax().item<int64_t>());
    text.push_back(token);
  }
}

TEST(GenerateTest, TopKDrawsFromTheLikeliestOnly) {
  Gpt2 model = small();
  model->eval();
  std::set<int64_t> seen;
  for (uint64_t seed = 0; seed < 50; ++seed) {
    seen.insert(generate(*model, {3}, {1, 100.0, /*top_k=*/4, seed}).front());
  }
  EXPECT_EQ(seen.size(), 4u);  // of 4 nearly equal tokens, each missed by 50 draws: 4 * 0.75^50
}

TEST(GenerateTest, TopPDrawsFromTheFewestLikeliestThatSumToIt) {
  Gpt2 model = small();
  model->eval();
  const torch::NoGradGuard no_grad;
  const Tensor p = model->next(torch::tensor({{3}})).to(at::kDouble).div(100).softmax(-1)[0];
  const auto [sorted, order] = p.sort(0, /*descending=*/true);
  std::set<int64_t> expected, seen;
  for (double sum = 0; sum < 0.4;) {
    const auto i = static_cast<int64_t>(expected.size());
    sum += sorted[i].item<double>();
    expected.insert(order[i].item<int64_t>());
  }
  for (uint64_t seed = 0; seed < 200; ++seed) {
    seen.insert(generate(*model, {3}, {1, 100.0, 0, seed, /*top_p=*/0.4}).front());
  }
  EXPECT_GT(expected.size(), 4u);
  EXPECT_LT(expected.size(), 12u);
  EXPECT_EQ(seen,
            expected);  // of 12 nearly equal tokens, each missed by 200 draws: 12 * (11/12)^200
  EXPECT_EQ(generate(*model, {3}, {9, 100.0, 0, 1, /*top_p=*/1e-9}),
            generate(*model, {3}, {9, 0.0, 0, 1}));
}

TEST(GenerateTest, EndsBehindATokenThatStops) {
  Gpt2 model = small();
  const auto whole = generate(*model, {3}, {20, 1.0, 0, 7});
  SamplingOptions options{20, 1.0, 0, 7};
  options.stop = {whole[5], 22};
  const auto cut = generate(*model, {3}, options);
  const auto first = std::find_if(whole.begin(), whole.end(),
                                  [&](int64_t token) { return token == whole[5] || token == 22; });
  EXPECT_EQ(cut, std::vector<int64_t>(whole.begin(), first + 1));
}

TEST(GenerateTest, NamesWhatIsWrong) {
  Gpt2 model = small();
  EXPECT_THROW_WITH(generate(*model, {}, {}), "no token to go on from");
  EXPECT_THROW_WITH(generate(*model, {23}, {}), "token 23 is outside of the vocabulary of 23");
  EXPECT_THROW_WITH(generate(*model, {1}, {-1}), "expected none below 0");
  SamplingOptions options;
  options.top_p = 0;
  EXPECT_THROW_WITH(generate(*model, {1}, options), "top_p is 0, expected 0 < top_p <= 1");
}

}  // namespace
}  // namespace rev::models
