#include "rev/models/llama_config.h"

#include <gtest/gtest.h>
#include <string>
#include <variant>

#include "support/throws.h"

namespace rev::models {
namespace {

// What Hugging Face's file has of a small Llama.
HfKeys keys() {
  return {{"model_type", std::string("llama")},
          {"num_hidden_layers", int64_t{2}},
          {"num_attention_heads", int64_t{6}},
          {"num_key_value_heads", int64_t{2}},
          {"hidden_size", int64_t{24}},
          {"intermediate_size", int64_t{40}},
          {"max_position_embeddings", int64_t{64}},
          {"vocab_size", int64_t{50}},
          {"rms_norm_eps", 1e-5},
          {"rope_theta", int64_t{500000}},
          {"rope_scaling", std::monostate()},
          {"hidden_act", std::string("silu")},
          {"tie_word_embeddings", true},
          {"eos_token_id", int64_t{7}},
          {"pretraining_tp", int64_t{1}}};
}

TEST(LlamaConfigTest, ReadsHuggingFacesKeys) {
  HfKeys given = keys();
  LlamaConfig config = LlamaConfig::from_hf(given);
  EXPECT_EQ(config.scheme, "residual");
  EXPECT_EQ(config.layers, 2);
  EXPECT_EQ(config.heads, 6);
  EXPECT_EQ(config.kv_heads, 2);
  EXPECT_EQ(config.channels, 24);
  EXPECT_EQ(config.hidden, 40);
  EXPECT_EQ(config.seq, 64);
  EXPECT_EQ(config.vocab, 50);
  EXPECT_EQ(config.eps, 1e-5);
  EXPECT_EQ(config.rotary.width, 4);
  EXPECT_EQ(config.rotary.theta, 500000);
  EXPECT_EQ(config.rotary.scaling, "default");
  EXPECT_TRUE(config.tied);
  EXPECT_FALSE(config.attention_bias || config.mlp_bias);
  EXPECT_FALSE(config.bos.has_value());
  EXPECT_EQ(config.eos, std::vector<int64_t>{7});

  for (const char* absent : {"num_key_value_heads", "rms_norm_eps", "rope_theta",
                             "tie_word_embeddings", "eos_token_id"}) {
    given.erase(absent);
  }
  given["head_dim"] = int64_t{10};
  config = LlamaConfig::from_hf(given);
  EXPECT_EQ(config.kv_heads, 6);
  EXPECT_EQ(config.eps, 1e-6);
  EXPECT_EQ(config.rotary.theta, 10000);
  EXPECT_EQ(config.rotary.width, 10);
  EXPECT_FALSE(config.tied);
  EXPECT_TRUE(config.eos.empty());
}

TEST(LlamaConfigTest, ReadsScalingsInBothOfTheirForms) {
  HfKeys given = keys();
  given.erase("rope_scaling");
  given["rope_scaling.type"] = std::string("linear");
  given["rope_scaling.factor"] = int64_t{4};
  EXPECT_EQ(LlamaConfig::from_hf(given).rotary.scaling, "linear");
  EXPECT_EQ(LlamaConfig::from_hf(given).rotary.factor, 4);

  given = keys();
  given.erase("rope_theta");
  given["rope_parameters.rope_theta"] = 1e6;
  given["rope_parameters.rope_type"] = std::string("llama3");
  given["rope_parameters.factor"] = 32.0;
  given["rope_parameters.low_freq_factor"] = 2.0;
  given["rope_parameters.high_freq_factor"] = 5.0;
  given["rope_parameters.original_max_position_embeddings"] = int64_t{16};
  const nn::RotaryOptions rotary = LlamaConfig::from_hf(given).rotary;
  EXPECT_EQ(rotary.theta, 1e6);
  EXPECT_EQ(rotary.scaling, "llama3");
  EXPECT_EQ(rotary.factor, 32);
  EXPECT_EQ(rotary.low_freq_factor, 2);
  EXPECT_EQ(rotary.high_freq_factor, 5);
  EXPECT_EQ(rotary.original_seq, 16);
}

TEST(LlamaConfigTest, ComesBackFromHuggingFacesKeys) {
  LlamaConfig config = LlamaConfig::from_hf(keys());
  config.attention_bias = true;
  config.bos = 1;
  config.eos = {3, 4};
  for (const char* scaling : {"default", "linear", "llama3"}) {
    config.rotary.scaling = scaling;
    config.rotary.factor = 8;
    config.rotary.low_freq_factor = 2;
    config.rotary.high_freq_factor = 5;
    config.rotary.original_seq = 16;
    const HfKeys written = hf_config(config);
    const LlamaConfig back = LlamaConfig::from_hf(written);
    EXPECT_EQ(hf_config(back), written) << scaling;
    EXPECT_EQ(back.rotary.scaling, scaling);
    EXPECT_EQ(back.eos, config.eos);
    EXPECT_EQ(back.bos, config.bos);
    EXPECT_TRUE(back.attention_bias);
    const nn::RotaryOptions& own = back.rotary;
    EXPECT_EQ(own.factor, own.scaling == "default" ? 1 : 8);
    if (own.scaling != "llama3") continue;
    EXPECT_EQ(own.low_freq_factor, 2);
    EXPECT_EQ(own.high_freq_factor, 5);
    EXPECT_EQ(own.original_seq, 16);
  }
}

TEST(LlamaConfigTest, OnlyAResidualModelIsCalledHuggingFaces) {
  LlamaConfig config = LlamaConfig::from_hf(keys());
  for (const std::string& name : scheme_names()) {
    config.scheme = name;
    const HfKeys written = hf_config(config);
    const bool residual = name == "residual";
    EXPECT_EQ(std::get<std::string>(written.at("model_type")), residual ? "llama" : "rev-llama");
    EXPECT_EQ(written.count("architectures"), residual ? 1u : 0u) << name;
  }
  EXPECT_THROW_WITH(LlamaConfig::from_hf(hf_config(config)), "model_type has a value");
}

TEST(LlamaConfigTest, NamesKeysThatThisModelHasNoPartFor) {
  const auto with = [](const char* name, HfValue value) {
    HfKeys given = keys();
    given[name] = std::move(value);
    return LlamaConfig::from_hf(given);
  };
  EXPECT_THROW_WITH(with("hidden_act", std::string("gelu")), "hidden_act has a value");
  EXPECT_THROW_WITH(with("sliding_window", int64_t{4096}), "sliding_window has a value");
  EXPECT_THROW_WITH(with("attention_dropout", 0.1), "attention_dropout has a value");
  EXPECT_THROW_WITH(with("quantization_config.quant_method", std::string("awq")),
                    "quantization_config.quant_method has a value");
  EXPECT_THROW_WITH(with("rope_scaling.rope_type", std::string("yarn")),
                    "unknown scaling \"yarn\", expected default, linear or llama3");
  EXPECT_THROW_WITH(with("rope_scaling.rope_type", std::string("llama3")),
                    "rope_scaling.factor is missing");
  EXPECT_THROW_WITH(with("vocab_size", std::string("fifty")), "vocab_size is not of the expected");
  EXPECT_THROW_WITH(with("eos_token_id", std::vector<std::string>{"a"}), "eos_token_id is not of");
  EXPECT_THROW_WITH(with("num_attention_heads", int64_t{5}),
                    "num_attention_heads 5 does not divide hidden_size 24");
  EXPECT_THROW_WITH(with("num_key_value_heads", int64_t{4}),
                    "4 heads of keys and values do not divide 6");
  EXPECT_THROW_WITH(with("num_hidden_layers", int64_t{-1}), "layers is -1");
  EXPECT_THROW_WITH(with("rms_norm_eps", int64_t{1}), "eps is 1");
  HfKeys given = keys();
  given.erase("hidden_size");
  EXPECT_THROW_WITH(LlamaConfig::from_hf(given), "llama config: hidden_size is missing");
  LlamaConfig config = LlamaConfig::from_hf(keys());
  config.scheme = "revffn";
  EXPECT_THROW_WITH((check(config), 0), "revffn splits the channels in two");
}

}  // namespace
}  // namespace rev::models
