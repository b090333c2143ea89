#include "rev/models/gpt2_config.h"

#include <c10/util/Exception.h>

#include "models/hf_reader.h"

namespace rev::models {

Gpt2Config Gpt2Config::preset(const std::string& name) {
  struct Row {
    const char* name;
    int64_t layers, heads, channels, seq, vocab;
  };
  static constexpr Row kRows[] = {{"tiny", 4, 4, 128, 64, 256},
                                  {"gpt2", 12, 12, 768, 1024, 50257},
                                  {"gpt2-medium", 24, 16, 1024, 1024, 50257},
                                  {"gpt2-large", 36, 20, 1280, 1024, 50257},
                                  {"gpt2-xl", 48, 25, 1600, 1024, 50257}};
  for (const Row& row : kRows) {
    if (name != row.name) continue;
    Gpt2Config config;
    config.layers = row.layers;
    config.heads = row.heads;
    config.channels = row.channels;
    config.seq = row.seq;
    config.vocab = row.vocab;
    return config;
  }
  TORCH_CHECK(false, "gpt2: unknown preset \"", name,
              "\", expected tiny, gpt2, gpt2-medium, gpt2-large or gpt2-xl");
}

void check(const Gpt2Config& config) {
  for (const auto& [name, size] : {std::pair{"layers", config.layers},
                                   {"heads", config.heads},
                                   {"channels", config.channels},
                                   {"seq", config.seq},
                                   {"vocab", config.vocab}}) {
    TORCH_CHECK(size > 0, "gpt2: ", name, " is ", size, ", expected at least 1");
  }
  TORCH_CHECK(config.channels % config.heads == 0, "gpt2: ", config.heads, " heads do not divide ",
              config.channels, " channels");
  TORCH_CHECK(config.scheme != "revffn" || config.channels % 2 == 0,
              "gpt2: revffn splits the channels in two, but there are ", config.channels);
  TORCH_CHECK(config.dropout >= 0 && config.dropout < 1, "gpt2: dropout is ", config.dropout,
              ", expected 0 <= dropout < 1");
}

double count_parameters(const Gpt2Config& config) {
  const auto of = [](int64_t n) { return static_cast<double>(n); };
  const double c = of(config.channels);
  double layer = 12 * c * c + (config.bias ? 13 : 2) * c;
  if (config.scheme == "revffn") layer += c * c;
  return of(config.vocab + config.seq) * c + of(config.layers) * layer + (config.bias ? 2 : 1) * c;
}

HfKeys hf_config(const Gpt2Config& config) {
  HfKeys keys = {{"model_type", std::string("rev-gpt2")},
                 {"n_layer", config.layers},
                 {"n_head", config.heads},
                 {"n_embd", config.channels},
                 {"n_positions", config.seq},
                 {"n_inner", std::monostate()},
                 {"vocab_size", config.vocab},
                 {"embd_pdrop", config.dropout},
                 {"attn_pdrop", config.dropout},
                 {"resid_pdrop", config.dropout},
                 {"activation_function", std::string("gelu_new")},
                 {"layer_norm_epsilon", 1e-5},
                 {"initializer_range", 0.02},
                 {"tie_word_embeddings", true}};
  if (config.scheme == "residual") {
    keys["model_type"] = std::string("gpt2");
    keys["architectures"] = std::vector<std::string>{"GPT2LMHeadModel"};
  }
  return keys;
}

Gpt2Config Gpt2Config::from_hf(const HfKeys& keys) {
  const HfReader read("gpt2 config", keys);
  Gpt2Config config;
  config.scheme = "residual";
  config.layers = read.get<int64_t>("n_layer");
  config.heads = read.get<int64_t>("n_head");
  config.channels = read.get<int64_t>("n_embd");
  config.seq = read.get<int64_t>("n_positions");
  config.vocab = read.get<int64_t>("vocab_size");
  config.dropout = read.number("resid_pdrop", 0.1);
  for (const char* name : {"embd_pdrop", "attn_pdrop"}) {
    TORCH_CHECK(read.number(name, 0.1) == config.dropout, "gpt2 config: ", name,
                " differs from resid_pdrop, but this model has one dropout");
  }
  TORCH_CHECK(read.number("layer_norm_epsilon", 1e-5) == 1e-5,
              "gpt2 config: layer_norm_epsilon is not 1e-5");
  read.expect("model_type", {std::string("gpt2")});
  read.expect("activation_function", {std::string("gelu_new"), std::string("gelu_pytorch_tanh")});
  read.expect("n_inner", {std::monostate(), 4 * config.channels});
  read.expect("tie_word_embeddings", {true});
  read.expect("scale_attn_weights", {true});
  read.expect("scale_attn_by_inverse_layer_idx", {false});
  read.expect("add_cross_attention", {false});
  return config;
}

}  // namespace rev::models
