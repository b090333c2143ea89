#include "train/gguf_llama.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <c10/util/Exception.h>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "rev/nn/rotary.h"

namespace rev::train {

namespace {

using at::Tensor;

const std::string kRopeFactors = "rope_freqs.weight";

// Names outside of the layers, then those behind "blk.<l>." and "model.layers.<l>.".
constexpr std::pair<const char*, const char*> kNames[] = {
    {"token_embd.weight", "model.embed_tokens.weight"},
    {"output_norm.weight", "model.norm.weight"},
    {"output.weight", "lm_head.weight"}};
constexpr std::pair<const char*, const char*> kLayerNames[] = {
    {"attn_norm.", "input_layernorm."},    {"attn_q.", "self_attn.q_proj."},
    {"attn_k.", "self_attn.k_proj."},      {"attn_v.", "self_attn.v_proj."},
    {"attn_output.", "self_attn.o_proj."}, {"ffn_norm.", "post_attention_layernorm."},
    {"ffn_gate.", "mlp.gate_proj."},       {"ffn_up.", "mlp.up_proj."},
    {"ffn_down.", "mlp.down_proj."}};

std::string hf_name(const std::string& name) {
  for (const auto& [ours, theirs] : kNames) {
    if (name == ours) return theirs;
  }
  const size_t point = name.find('.', 4);
  if (!name.starts_with("blk.") || point == std::string::npos) return name;
  const std::string rest = name.substr(point + 1);
  for (const auto& [ours, theirs] : kLayerNames) {
    if (rest.starts_with(ours)) {
      return "model.layers." + name.substr(4, point - 3) + theirs +
             rest.substr(std::string(ours).size());
    }
  }
  return name;
}

// llama.cpp turns neighbours i, i + 1 of a head where Hugging Face turns i, i + D/2: the converter
// moved the rows of queries and keys, [heads,2,D/2] to [heads,D/2,2], and this moves them back.
Tensor unpermute(const Tensor& t, int64_t width) {
  if (t.size(0) % width != 0) return t;  // of a wrong shape, which loading says
  return t.unflatten(0, {-1, width / 2, 2}).transpose(1, 2).flatten(0, 2);
}

// Llama 3's scaling, of which the file keeps what it divides the frequencies by: the factor is the
// largest of these, the others are those of all models that have been published with it.
nn::RotaryOptions llama3_scaling(const io::GgufFile& file, nn::RotaryOptions rotary) {
  const Tensor factors = file.load(kRopeFactors).to(at::kFloat);
  TORCH_CHECK(factors.dim() == 1 && factors.numel() == rotary.width / 2, kRopeFactors, " is ",
              factors.sizes(), ", but a head's width is ", rotary.width);
  nn::RotaryOptions scaled = rotary;
  scaled.scaling = "llama3";
  scaled.factor = factors.max().item<double>();
  const Tensor expected = nn::rotary_frequencies(rotary) / nn::rotary_frequencies(scaled);
  // Both divide and subtract in float32: some units of 2^-24.
  TORCH_CHECK(
      ((factors - expected).abs() <= expected * 1e-5).all().item<bool>(), "the factors of ",
      kRopeFactors,
      " are not those of Llama 3's scaling of texts of 8192 tokens, which alone is known here");
  return scaled;
}

nn::RotaryOptions rotary_from(const io::GgufFile& file, int64_t width) {
  nn::RotaryOptions rotary;
  rotary.width = width;
  rotary.theta = file.find<double>("llama.rope.freq_base").value_or(rotary.theta);
  const std::string scaling = file.find<std::string>("llama.rope.scaling.type").value_or("none");
  TORCH_CHECK(scaling == "none" || scaling == "linear", "llama.rope.scaling.type is \"", scaling,
              "\", expected none or linear");
  if (scaling == "linear") {
    rotary.scaling = scaling;
    rotary.factor = file.get<double>("llama.rope.scaling.factor");
  }
  return file.tensors().count(kRopeFactors) == 0 ? rotary : llama3_scaling(file, rotary);
}

}  // namespace

models::LlamaConfig llama_config(const io::GgufFile& file) {
  const auto get = [&](const char* key) { return file.get<int64_t>(std::string("llama.") + key); };
  const auto find = [&](const char* key) {
    return file.find<int64_t>(std::string("llama.") + key);
  };
  TORCH_CHECK(find("expert_count").value_or(0) == 0, "llama.expert_count is ",
              find("expert_count").value_or(0), ", but this model has no experts");
  for (const char* key : {"attention.sliding_window", "attention.scale", "logit_scale",
                          "embedding_scale", "residual_scale"}) {
    const std::string name = std::string("llama.") + key;
    TORCH_CHECK(file.metadata().count(name) == 0, name,
                " is given, which this model has no part for");
  }
  const auto& tensors = file.tensors();
  const auto table = tensors.find("token_embd.weight");
  TORCH_CHECK(table != tensors.end(), "has no tensor token_embd.weight");

  models::LlamaConfig config;
  config.scheme = "residual";
  config.layers = get("block_count");
  config.heads = get("attention.head_count");
  config.kv_heads = find("attention.head_count_kv").value_or(config.heads);
  config.channels = get("embedding_length");
  config.hidden = get("feed_forward_length");
  config.seq = get("context_length");
  config.vocab = table->second.shape.front();
  config.eps = file.get<double>("llama.attention.layer_norm_rms_epsilon");
  config.tied = tensors.count("output.weight") == 0;
  config.attention_bias = tensors.count("blk.0.attn_q.bias") != 0;
  config.mlp_bias = tensors.count("blk.0.ffn_gate.bias") != 0;
  TORCH_CHECK(config.heads > 0, "llama.attention.head_count is ", config.heads);
  const int64_t width = find("attention.key_length").value_or(config.channels / config.heads);
  for (const char* key : {"attention.value_length", "rope.dimension_count"}) {
    TORCH_CHECK(find(key).value_or(width) == width, "llama.", key, " is ", *find(key),
                ", but a head's width is ", width);
  }
  config.rotary = rotary_from(file, width);
  config.bos = file.find<int64_t>("tokenizer.ggml.bos_token_id");
  if (const auto eos = file.find<int64_t>("tokenizer.ggml.eos_token_id")) config.eos = {*eos};
  return config;
}

base::NamedTensors llama_tensors(const io::GgufFile& file, const models::LlamaConfig& config) {
  base::NamedTensors named;
  for (const auto& [name, ignored] : file.tensors()) {
    if (name == kRopeFactors) continue;
    const bool is_turned =
        name.find(".attn_q.") != std::string::npos || name.find(".attn_k.") != std::string::npos;
    const Tensor tensor = file.load(name);
    named.emplace_back(hf_name(name), is_turned ? unpermute(tensor, config.rotary.width) : tensor);
  }
  return named;
}

}  // namespace rev::train
