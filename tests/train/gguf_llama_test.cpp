// A small Llama as llama.cpp's converter writes it.
#include <cstdlib>
#include <gtest/gtest.h>
#include <map>
#include <string>
#include <torch/torch.h>

#include "io/gguf_bytes.h"
#include "rev/models/llama.h"
#include "rev/train/model_files.h"
#include "support/temp_folder.h"
#include "support/throws.h"

namespace rev::train {
namespace {

using at::Tensor;
using Keys = std::map<std::string, std::string>;  // a key's bytes by its name
using Tensors = std::map<std::string, Tensor>;

models::LlamaConfig small(bool tied = false, bool bias = false) {
  models::LlamaConfig config;
  config.layers = 2;
  config.heads = 4;
  config.kv_heads = 2;
  config.channels = 16;
  config.hidden = 24;
  config.seq = 20;
  config.vocab = 31;
  config.rotary.width = 32;
  config.rotary.theta = 500000;
  config.eps = 0.25;  // the same number in float32
  config.tied = tied;
  config.attention_bias = config.mlp_bias = bias;
  config.scheme = "residual";
  return config;
}

std::string number(uint32_t value) { return io::u32(value); }

Keys keys_of(const models::LlamaConfig& config) {
  Keys keys;
  const auto add = [&](const std::string& name, int64_t value) {
    keys[name] = io::key(name, io::kUInt32, number(static_cast<uint32_t>(value)));
  };
  keys["general.architecture"] = io::key("general.architecture", io::kString, io::text("llama"));
  add("llama.block_count", config.layers);
  add("llama.context_length", config.seq);
  add("llama.embedding_length", config.channels);
  add("llama.feed_forward_length", config.hidden);
  add("llama.attention.head_count", config.heads);
  add("llama.attention.head_count_kv", config.kv_heads);
  add("llama.attention.key_length", config.rotary.width);
  add("llama.attention.value_length", config.rotary.width);
  add("llama.rope.dimension_count", config.rotary.width);
  add("tokenizer.ggml.eos_token_id", 9);
  for (const auto& [name, value] : {std::pair{"llama.rope.freq_base", config.rotary.theta},
                                    {"llama.attention.layer_norm_rms_epsilon", config.eps}}) {
    keys[name] = io::key(name, io::kFloat32, io::raw(static_cast<float>(value)));
  }
  return keys;
}

Tensors tensors_of(const models::Llama& model) {
  const std::pair<const char*, const char*> names[] = {{"model.layers.", "blk."},
                                                       {"input_layernorm", "attn_norm"},
                                                       {"self_attn.q_proj", "attn_q"},
                                                       {"self_attn.k_proj", "attn_k"},
                                                       {"self_attn.v_proj", "attn_v"},
                                                       {"self_attn.o_proj", "attn_output"},
                                                       {"post_attention_layernorm", "ffn_norm"},
                                                       {"mlp.gate_proj", "ffn_gate"},
                                                       {"mlp.up_proj", "ffn_up"},
                                                       {"mlp.down_proj", "ffn_down"},
                                                       {"model.embed_tokens", "token_embd"},
                                                       {"model.norm", "output_norm"},
                                                       {"lm_head", "output"}};
  Tensors tensors;
  for (const auto& [full, tensor] : model->state_dict()) {
    std::string name = full;
    Tensor t = tensor.detach();
    for (const auto& [theirs, ggml] : names) {
      const size_t at = name.find(theirs);
      if (at != std::string::npos) name.replace(at, std::string(theirs).size(), ggml);
    }
    if (full.find("q_proj") != std::string::npos || full.find("k_proj") != std::string::npos) {
      t = t.unflatten(0, {-1, 2, 16}).transpose(1, 2).flatten(0, 2);  // halves to neighbours
    }
    tensors[name] = t.contiguous();
  }
  return tensors;
}

std::string gguf(const Keys& keys, const Tensors& tensors) {
  std::string file = io::header(tensors.size(), keys.size()), infos, data;
  for (const auto& [name, bytes] : keys) file += bytes;
  for (const auto& [name, t] : tensors) {
    const std::vector<uint64_t> dims(t.sizes().rbegin(), t.sizes().rend());
    infos += io::tensor(name, dims, /*F32*/ 0, data.size());
    data = io::padded(data + std::string(static_cast<const char*>(t.data_ptr()), t.nbytes()));
  }
  return io::padded(file + infos) + data;
}

class GgufLlamaTest : public ::testing::Test {
 protected:
  std::shared_ptr<models::CausalLm> open(const Keys& keys, const Tensors& tensors) {
    support::write_bytes(file_, gguf(keys, tensors));
    return open_model(file_);
  }
  models::LlamaConfig config(const Keys& keys, const Tensors& tensors) {
    return std::dynamic_pointer_cast<models::LlamaImpl>(open(keys, tensors))->config();
  }

  support::TempFolder folder_;
  std::filesystem::path file_ = folder_ / "m.gguf";
};

TEST_F(GgufLlamaTest, IsTheModelThatItWasMadeOf) {
  torch::manual_seed(91);
  for (const bool tied : {false, true}) {
    for (const bool bias : {false, true}) {
      models::Llama model(small(tied, bias));
      const torch::NoGradGuard no_grad;
      for (Tensor& p : model->parameters()) p.normal_();
      const auto back = open(keys_of(model->config()), tensors_of(model));
      const auto a = model->state_dict(), b = back->state_dict();
      ASSERT_EQ(a.size(), b.size());
      for (size_t i = 0; i < a.size(); ++i) {
        EXPECT_EQ(a[i].first, b[i].first);
        EXPECT_TRUE(at::equal(a[i].second, b[i].second)) << a[i].first;
      }
      const Tensor tokens = torch::arange(20).unsqueeze(0);
      EXPECT_TRUE(at::equal(back->forward(tokens), model->forward(tokens)));
      EXPECT_EQ(sampling_options(file_).stop, std::vector<int64_t>{9});
    }
  }
}

TEST_F(GgufLlamaTest, KnowsScalingsOfLongTexts) {
  const models::Llama model(small());
  Keys keys = keys_of(model->config());
  Tensors tensors = tensors_of(model);
  EXPECT_EQ(config(keys, tensors).rotary.scaling, "default");

  nn::RotaryOptions llama3 = model->config().rotary;
  llama3.scaling = "llama3";
  llama3.factor = 32;
  const Tensor factors =
      nn::rotary_frequencies(model->config().rotary) / nn::rotary_frequencies(llama3);
  tensors["rope_freqs.weight"] = factors;
  EXPECT_EQ(config(keys, tensors).rotary.scaling, "llama3");
  EXPECT_EQ(config(keys, tensors).rotary.factor, 32);
  tensors["rope_freqs.weight"] = factors.sqrt();
  EXPECT_THROW_WITH(open(keys, tensors), "m.gguf: the factors of rope_freqs.weight are not those");
  tensors["rope_freqs.weight"] = torch::ones({15});
  EXPECT_THROW_WITH(open(keys, tensors),
                    "m.gguf: rope_freqs.weight is [15], but a head's width is 32");
  tensors.erase("rope_freqs.weight");

  keys["a"] = io::key("llama.rope.scaling.type", io::kString, io::text("linear"));
  EXPECT_THROW_WITH(open(keys, tensors), "llama.rope.scaling.factor");
  keys["b"] = io::key("llama.rope.scaling.factor", io::kFloat32, io::raw(4.0f));
  EXPECT_EQ(config(keys, tensors).rotary.scaling, "linear");
  EXPECT_EQ(config(keys, tensors).rotary.factor, 4);
  keys["a"] = io::key("llama.rope.scaling.type", io::kString, io::text("yarn"));
  EXPECT_THROW_WITH(open(keys, tensors),
                    "m.gguf: llama.rope.scaling.type is \"yarn\", expected none or linear");
}

TEST_F(GgufLlamaTest, NamesWhatThisModelHasNoPartFor) {
  const models::Llama model(small());
  const Keys keys = keys_of(model->config());
  const Tensors tensors = tensors_of(model);
  Keys other = keys;
  other["general.architecture"] = io::key("general.architecture", io::kString, io::text("qwen2"));
  EXPECT_THROW_WITH(open(other, tensors),
                    "m.gguf: general.architecture is \"qwen2\", expected llama");
  other = keys;
  other.erase("llama.block_count");
  EXPECT_THROW_WITH(open(other, tensors), "llama.block_count");
  other = keys;
  other["x"] = io::key("llama.expert_count", io::kUInt32, number(8));
  EXPECT_THROW_WITH(open(other, tensors), "m.gguf: llama.expert_count is 8");
  other = keys;
  other["x"] = io::key("llama.attention.sliding_window", io::kUInt32, number(8));
  EXPECT_THROW_WITH(open(other, tensors), "m.gguf: llama.attention.sliding_window is given");
  other.erase("x");
  other["llama.rope.dimension_count"] =
      io::key("llama.rope.dimension_count", io::kUInt32, number(16));
  EXPECT_THROW_WITH(open(other, tensors),
                    "m.gguf: llama.rope.dimension_count is 16, but a head's width is 32");
  other = keys;
  other["llama.block_count"] = io::key("llama.block_count", io::kUInt32, number(1u << 31));
  EXPECT_THROW_WITH(open(other, tensors), "m.gguf: its config asks for ");
}

TEST_F(GgufLlamaTest, NamesTensorsThatDoNotFit) {
  const models::Llama model(small());
  const Keys keys = keys_of(model->config());
  const Tensors tensors = tensors_of(model);
  Tensors other = tensors;
  other.erase("blk.1.ffn_up.weight");
  other["blk.1.more"] = torch::ones({24, 16});
  EXPECT_THROW_WITH(
      open(keys, other),
      "m.gguf: llama: missing model.layers.1.mlp.up_proj.weight; unexpected blk.1.more");
  other = tensors;
  other["blk.0.attn_q.weight"] = torch::ones({129, 16});
  EXPECT_THROW_WITH(open(keys, other), "of the wrong shape model.layers.0.self_attn.q_proj.weight");
  other = tensors;
  other.erase("token_embd.weight");
  EXPECT_THROW_WITH(open(keys, other), "m.gguf: has no tensor token_embd.weight");
}

}  // namespace
}  // namespace rev::train
