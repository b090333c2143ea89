#include "rev/train/stability.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

namespace rev::train {
namespace {

models::Gpt2 model_of(const std::string& scheme) {
  torch::manual_seed(1);
  models::Gpt2Config config;
  config.layers = 3;
  config.heads = 2;
  config.channels = 16;
  config.seq = 8;
  config.vocab = 32;
  config.scheme = scheme;
  models::Gpt2 model(config);
  model->eval();
  return model;
}

TEST(StabilityTest, NamesTheLayersThatWereMadeToLeaveTheBand) {
  const at::Tensor tokens = torch::arange(8).view({1, 8});
  for (const char* scheme : {"midpoint", "midpoint-a", "leapfrog", "hamiltonian"}) {
    models::Gpt2 model = model_of(scheme);
    // Norms divide by states of size 0.03: at the start, too, layers may stretch. Weak ones do not.
    const torch::NoGradGuard no_grad;
    for (auto& named : model->named_parameters()) {
      if (named.key().find("c_proj.weight") != std::string::npos) named.value().mul_(1e-3);
    }
    EXPECT_TRUE(unstable_layers(model, tokens).empty()) << scheme;
    for (auto& named : model->named_parameters()) {
      const std::string& name = named.key();
      if (name.find("h.1.") != std::string::npos &&
          name.find("c_proj.weight") != std::string::npos) {
        named.value().mul_(1e6);
      }
    }
    const auto unstable = unstable_layers(model, tokens);
    ASSERT_FALSE(unstable.empty()) << scheme;
    EXPECT_EQ(unstable[0].layer, 1) << scheme;
    EXPECT_GT(unstable[0].norm, unstable[0].limit);
  }
}

TEST(StabilityTest, SchemesWithoutABandAreNotMeasured) {
  for (const char* scheme : {"residual", "revffn"}) {
    models::Gpt2 model = model_of(scheme);
    EXPECT_TRUE(unstable_layers(model, torch::zeros({1, 8}, torch::kLong)).empty());
  }
}

}  // namespace
}  // namespace rev::train
