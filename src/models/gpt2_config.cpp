#include "rev/models/gpt2_config.h"

#include <c10/util/Exception.h>
#include <c10/util/StringUtil.h>

#include "rev/schemes/hamiltonian.h"
#include "rev/schemes/leapfrog.h"
#include "rev/schemes/midpoint.h"
#include "rev/schemes/midpoint_a.h"
#include "rev/schemes/residual.h"
#include "rev/schemes/revffn.h"

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

const std::vector<std::string>& scheme_names() {
  static const std::vector<std::string> names = {"residual", "midpoint",    "midpoint-a",
                                                 "leapfrog", "hamiltonian", "revffn"};
  return names;
}

std::shared_ptr<schemes::Scheme> make_scheme(const Gpt2Config& config) {
  const std::string& name = config.scheme;
  if (name == "residual") return std::make_shared<schemes::Residual>();
  if (name == "midpoint") return std::make_shared<schemes::Midpoint>(config.h);
  if (name == "leapfrog") return std::make_shared<schemes::Leapfrog>(config.h);
  if (name == "revffn") {
    schemes::RevFFNOptions options;
    options.low_bits = config.low_bits;
    return std::make_shared<schemes::RevFFN>(options);
  }
  if (name == "hamiltonian") {
    TORCH_CHECK(config.a.size() <= 1, "gpt2: hamiltonian takes one a, got ", config.a.size());
    return std::make_shared<schemes::Hamiltonian>(config.a.empty() ? 1.0 : config.a[0]);
  }
  TORCH_CHECK(name == "midpoint-a", "gpt2: unknown scheme \"", name, "\", expected one of ",
              c10::Join(", ", scheme_names()));
  const auto draw = config.a_pairs ? schemes::MidpointA::draw_pairs : schemes::MidpointA::draw;
  return std::make_shared<schemes::MidpointA>(
      config.a.empty() ? draw(config.layers, config.a_seed) : config.a, config.h);
}

std::map<std::string, HfValue> hf_config(const Gpt2Config& config) {
  std::map<std::string, HfValue> keys = {{"model_type", std::string("rev-gpt2")},
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

namespace {

using Keys = std::map<std::string, HfValue>;

template <class T>
T required(const Keys& keys, const std::string& name) {
  const auto found = keys.find(name);
  TORCH_CHECK(found != keys.end(), "gpt2 config: ", name, " is missing");
  const T* value = std::get_if<T>(&found->second);
  TORCH_CHECK(value, "gpt2 config: ", name, " is not of the expected type");
  return *value;
}

// A number that JSON may have written without a point; `otherwise` where it is absent.
double number(const Keys& keys, const std::string& name, double otherwise) {
  const auto found = keys.find(name);
  if (found == keys.end()) return otherwise;
  if (const auto* whole = std::get_if<int64_t>(&found->second)) return static_cast<double>(*whole);
  return required<double>(keys, name);
}

// Passes where the key is absent or has one of the values that this model is made for.
void expect(const Keys& keys, const std::string& name, const std::vector<HfValue>& accepted) {
  const auto found = keys.find(name);
  if (found == keys.end()) return;
  for (const HfValue& value : accepted) {
    if (found->second == value) return;
  }
  TORCH_CHECK(false, "gpt2 config: ", name, " has a value that this model has no part for");
}

}  // namespace

Gpt2Config from_hf_config(const Keys& keys) {
  Gpt2Config config;
  config.scheme = "residual";
  config.layers = required<int64_t>(keys, "n_layer");
  config.heads = required<int64_t>(keys, "n_head");
  config.channels = required<int64_t>(keys, "n_embd");
  config.seq = required<int64_t>(keys, "n_positions");
  config.vocab = required<int64_t>(keys, "vocab_size");
  config.dropout = number(keys, "resid_pdrop", 0.1);
  for (const char* name : {"embd_pdrop", "attn_pdrop"}) {
    TORCH_CHECK(number(keys, name, 0.1) == config.dropout, "gpt2 config: ", name,
                " differs from resid_pdrop, but this model has one dropout");
  }
  TORCH_CHECK(number(keys, "layer_norm_epsilon", 1e-5) == 1e-5,
              "gpt2 config: layer_norm_epsilon is not 1e-5");
  expect(keys, "model_type", {std::string("gpt2")});
  expect(keys, "activation_function", {std::string("gelu_new"), std::string("gelu_pytorch_tanh")});
  expect(keys, "n_inner", {std::monostate(), 4 * config.channels});
  expect(keys, "tie_word_embeddings", {true});
  expect(keys, "scale_attn_weights", {true});
  expect(keys, "scale_attn_by_inverse_layer_idx", {false});
  expect(keys, "add_cross_attention", {false});
  return config;
}

}  // namespace rev::models
