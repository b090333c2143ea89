#include "rev/models/llama_config.h"

#include <c10/util/Exception.h>
#include <string>
#include <utility>
#include <variant>

#include "models/hf_reader.h"

namespace rev::models {

void check(const LlamaConfig& config) {
  for (const auto& [name, size] : {std::pair{"layers", config.layers},
                                   {"heads", config.heads},
                                   {"kv_heads", config.kv_heads},
                                   {"channels", config.channels},
                                   {"hidden", config.hidden},
                                   {"seq", config.seq},
                                   {"vocab", config.vocab}}) {
    TORCH_CHECK(size > 0, "llama: ", name, " is ", size, ", expected at least 1");
  }
  TORCH_CHECK(config.heads % config.kv_heads == 0, "llama: ", config.kv_heads,
              " heads of keys and values do not divide ", config.heads, " heads");
  TORCH_CHECK(config.eps > 0 && config.eps < 1, "llama: eps is ", config.eps,
              ", expected 0 < eps < 1");
  TORCH_CHECK(config.scheme != "revffn",
              "llama: revffn splits the channels in two, which a Llama's maps do not read");
  nn::check(config.rotary);
}

double count_parameters(const LlamaConfig& config) {
  const auto of = [](int64_t n) { return static_cast<double>(n); };
  const double c = of(config.channels), f = of(config.hidden), d = of(config.rotary.width);
  const double q = of(config.heads) * d, kv = of(config.kv_heads) * d;
  double layer = 2 * c * (q + kv) + 3 * c * f + 2 * c;
  if (config.attention_bias) layer += q + 2 * kv + c;
  if (config.mlp_bias) layer += 2 * f + c;
  return of(config.vocab) * c * (config.tied ? 1 : 2) + of(config.layers) * layer + c;
}

HfKeys hf_config(const LlamaConfig& config) {
  HfKeys keys = {{"model_type", std::string("rev-llama")},
                 {"num_hidden_layers", config.layers},
                 {"num_attention_heads", config.heads},
                 {"num_key_value_heads", config.kv_heads},
                 {"head_dim", config.rotary.width},
                 {"hidden_size", config.channels},
                 {"intermediate_size", config.hidden},
                 {"max_position_embeddings", config.seq},
                 {"vocab_size", config.vocab},
                 {"rms_norm_eps", config.eps},
                 {"rope_theta", config.rotary.theta},
                 {"rope_scaling", std::monostate()},
                 {"hidden_act", std::string("silu")},
                 {"attention_bias", config.attention_bias},
                 {"attention_dropout", 0.0},
                 {"mlp_bias", config.mlp_bias},
                 {"initializer_range", 0.02},
                 {"tie_word_embeddings", config.tied},
                 {"torch_dtype", std::string("float32")}};
  if (config.scheme == "residual") {
    keys["model_type"] = std::string("llama");
    keys["architectures"] = std::vector<std::string>{"LlamaForCausalLM"};
  }
  if (config.bos) keys["bos_token_id"] = *config.bos;
  if (config.eos.size() == 1) keys["eos_token_id"] = config.eos[0];
  if (config.eos.size() > 1) keys["eos_token_id"] = config.eos;
  if (config.rotary.scaling == "default") return keys;
  keys.erase("rope_scaling");
  keys["rope_scaling.rope_type"] = config.rotary.scaling;
  keys["rope_scaling.factor"] = config.rotary.factor;
  if (config.rotary.scaling != "llama3") return keys;
  keys["rope_scaling.low_freq_factor"] = config.rotary.low_freq_factor;
  keys["rope_scaling.high_freq_factor"] = config.rotary.high_freq_factor;
  keys["rope_scaling.original_max_position_embeddings"] = config.rotary.original_seq;
  return keys;
}

namespace {

// The rotary options, in `rope_scaling` or, with theta, in `rope_parameters`.
nn::RotaryOptions rotary_from(const HfReader& read) {
  nn::RotaryOptions rotary;
  const std::string at =
      read.has("rope_parameters.rope_type") || read.has("rope_parameters.rope_theta")
          ? "rope_parameters."
          : "rope_scaling.";
  rotary.theta = read.number("rope_theta", read.number(at + "rope_theta", rotary.theta));
  const std::string former = read.get<std::string>(at + "type", "default");
  rotary.scaling = read.get<std::string>(at + "rope_type", former);
  if (rotary.scaling == "linear") rotary.factor = read.number(at + "factor");
  if (rotary.scaling != "llama3") return rotary;
  rotary.factor = read.number(at + "factor");
  rotary.low_freq_factor = read.number(at + "low_freq_factor");
  rotary.high_freq_factor = read.number(at + "high_freq_factor");
  rotary.original_seq = read.get<int64_t>(at + "original_max_position_embeddings");
  return rotary;
}

}  // namespace

LlamaConfig LlamaConfig::from_hf(const HfKeys& keys) {
  const HfReader read("llama config", keys);
  read.expect("model_type", {std::string("llama")});
  read.expect("hidden_act", {std::string("silu"), std::string("swish")});
  read.expect("attention_dropout", {int64_t{0}, 0.0});
  read.expect("partial_rotary_factor", {int64_t{1}, 1.0});
  for (const char* name : {"rope_interleaved", "use_sliding_window", "add_cross_attention",
                           "use_qk_norm", "qk_layernorm"}) {
    read.expect(name, {false, std::monostate()});
  }
  for (const char* name : {"sliding_window", "attn_logit_softcapping", "final_logit_softcapping"}) {
    read.expect(name, {std::monostate()});
  }
  read.expect("quantization_config.quant_method", {});

  LlamaConfig config;
  config.scheme = "residual";
  config.layers = read.get<int64_t>("num_hidden_layers");
  config.heads = read.get<int64_t>("num_attention_heads");
  config.kv_heads = read.get<int64_t>("num_key_value_heads", config.heads);
  config.channels = read.get<int64_t>("hidden_size");
  config.hidden = read.get<int64_t>("intermediate_size");
  config.seq = read.get<int64_t>("max_position_embeddings");
  config.vocab = read.get<int64_t>("vocab_size");
  config.eps = read.number("rms_norm_eps", 1e-6);
  config.tied = read.get("tie_word_embeddings", false);
  config.attention_bias = read.get("attention_bias", false);
  config.mlp_bias = read.get("mlp_bias", false);
  config.rotary = rotary_from(read);
  TORCH_CHECK(read.has("head_dim") || (config.heads > 0 && config.channels % config.heads == 0),
              "llama config: num_attention_heads ", config.heads, " does not divide hidden_size ",
              config.channels, ", and there is no head_dim");
  config.rotary.width =
      read.has("head_dim") ? read.get<int64_t>("head_dim") : config.channels / config.heads;
  if (read.has("bos_token_id")) config.bos = read.get<int64_t>("bos_token_id");
  config.eos = read.ids("eos_token_id");
  check(config);
  return config;
}

}  // namespace rev::models
