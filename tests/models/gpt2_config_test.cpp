#include "rev/models/gpt2_config.h"

#include <cmath>
#include <gtest/gtest.h>
#include <string>
#include <variant>

#include "rev/schemes/midpoint_a.h"
#include "support/throws.h"

namespace rev::models {
namespace {

TEST(Gpt2ConfigTest, PresetsHaveTheirNumberOfParameters) {
  const auto count = [](const std::string& name) {
    return count_parameters(Gpt2Config::preset(name));
  };
  EXPECT_EQ(count("gpt2"), 124439808);
  EXPECT_EQ(count("gpt2-medium"), 354823168);
  EXPECT_EQ(count("gpt2-large"), 774030080);
  EXPECT_EQ(count("gpt2-xl"), 1557611200);
  EXPECT_THROW_WITH(Gpt2Config::preset("gpt3"), "unknown preset \"gpt3\", expected tiny, gpt2");
}

TEST(Gpt2ConfigTest, EverySchemeHasItsName) {
  Gpt2Config config = Gpt2Config::preset("tiny");
  EXPECT_EQ(scheme_names().size(), 7u);
  for (const std::string& name : scheme_names()) {
    config.scheme = name;
    EXPECT_EQ(make_scheme(config, config.layers)->name(), name == "retrofit" ? "midpoint-a" : name);
  }
  config.scheme = "euler";
  EXPECT_THROW_WITH(make_scheme(config, config.layers),
                    "unknown scheme \"euler\", expected one of residual, midpoint");
}

TEST(Gpt2ConfigTest, OptionsReachTheScheme) {
  Gpt2Config config = Gpt2Config::preset("tiny");
  config.scheme = "midpoint-a";
  const auto weights = [&] {
    const auto scheme = make_scheme(config, config.layers);
    const auto& midpoint_a = dynamic_cast<const schemes::MidpointA&>(*scheme);
    std::vector<double> a;
    for (int64_t l = 0; l < config.layers; ++l) a.push_back(midpoint_a.a(l));
    return a;
  };
  config.a_seed = 3;
  const auto drawn = weights();
  config.a_pairs = true;
  const auto pairs = weights();
  EXPECT_EQ(pairs[0], drawn[0]);
  for (const size_t l : {1, 3}) {
    EXPECT_NE(pairs[l], drawn[l]);
    EXPECT_NEAR(std::abs(pairs[l] * pairs[l - 1]), 1.0, 1.5 / 256);  // rounded up to n / 2^8
  }
  config.a = {1, 0.5, -0.5, 1.25};
  EXPECT_EQ(weights(), config.a);
  config.scheme = "revffn";
  config.low_bits = 3;
  EXPECT_THROW_WITH(make_scheme(config, config.layers), "low_bits must be 2, 4, 8, 16");
}

TEST(Gpt2ConfigTest, NamesSizesThatDoNotFit) {
  Gpt2Config config = Gpt2Config::preset("tiny");
  config.heads = 3;
  EXPECT_THROW_WITH((check(config), 0), "3 heads do not divide 128 channels");
  config = Gpt2Config::preset("tiny");
  config.layers = 0;
  EXPECT_THROW_WITH((check(config), 0), "layers is 0");
  config = Gpt2Config::preset("tiny");
  config.dropout = 1;
  EXPECT_THROW_WITH((check(config), 0), "dropout is 1");
  config = Gpt2Config::preset("tiny");
  config.scheme = "revffn";
  config.heads = 1;
  config.channels = 5;
  EXPECT_THROW_WITH((check(config), 0), "revffn splits the channels in two");
}

TEST(Gpt2ConfigTest, ComesBackFromHuggingFacesKeys) {
  Gpt2Config config = Gpt2Config::preset("gpt2-large");
  config.dropout = 0.25;
  config.scheme = "residual";
  const Gpt2Config back = Gpt2Config::from_hf(hf_config(config));
  EXPECT_EQ(back.layers, 36);
  EXPECT_EQ(back.heads, 20);
  EXPECT_EQ(back.channels, 1280);
  EXPECT_EQ(back.seq, 1024);
  EXPECT_EQ(back.vocab, 50257);
  EXPECT_EQ(back.dropout, 0.25);
  EXPECT_EQ(back.scheme, "residual");
}

TEST(Gpt2ConfigTest, OnlyAResidualModelIsCalledHuggingFaces) {
  Gpt2Config config = Gpt2Config::preset("tiny");
  for (const std::string& name : scheme_names()) {
    config.scheme = name;
    const auto keys = hf_config(config);
    const bool residual = name == "residual";
    EXPECT_EQ(std::get<std::string>(keys.at("model_type")), residual ? "gpt2" : "rev-gpt2") << name;
    EXPECT_EQ(keys.count("architectures"), residual ? 1u : 0u) << name;
    if (!residual) {
      EXPECT_THROW_WITH(Gpt2Config::from_hf(keys), "model_type has a value");
    }
  }
}

TEST(Gpt2ConfigTest, NamesKeysThatThisModelHasNoPartFor) {
  Gpt2Config config = Gpt2Config::preset("tiny");
  config.scheme = "residual";
  const auto whole = hf_config(config);
  auto keys = whole;
  keys["activation_function"] = std::string("relu");
  EXPECT_THROW_WITH(Gpt2Config::from_hf(keys), "activation_function has a value");
  keys = whole;
  keys["attn_pdrop"] = 0.5;
  EXPECT_THROW_WITH(Gpt2Config::from_hf(keys), "attn_pdrop differs from resid_pdrop");
  keys = whole;
  keys.erase("n_head");
  EXPECT_THROW_WITH(Gpt2Config::from_hf(keys), "n_head is missing");
  keys["n_head"] = std::string("four");
  EXPECT_THROW_WITH(Gpt2Config::from_hf(keys), "n_head is not of the expected type");
}

}  // namespace
}  // namespace rev::models
