#include "models/gpt2_block.h"

#include <ATen/core/grad_mode.h>
#include <cmath>
#include <memory>
#include <string>
#include <utility>

#include "models/block_field.h"
#include "rev/nn/cross_attention.h"

namespace rev::models {

namespace {

using at::Tensor;
using at::TensorList;

constexpr double kStd = 0.02;

class CrossAttentionField : public BlockField {
 public:
  CrossAttentionField(const nn::CrossAttention& attention, Modules modules)
      : BlockField(
            [attention](TensorList x, bool need_value) {
              return attention.forward(x[0], x[1], need_value);
            },
            std::move(modules)),
        attention_(attention) {}

  engine::TokenMap token_map(const Tensor&, const Tensor& x2) override {
    return attention_.token_map(x2);
  }

 private:
  nn::CrossAttention attention_;
};

}  // namespace

BlockImpl::BlockImpl(const Gpt2Config& config) {
  const int64_t channels = config.channels;
  ln_1 = register_module("ln_1", nn::LayerNorm(channels, config.bias));
  attn = register_module("attn", nn::Attention(nn::AttentionOptions{channels, config.heads,
                                                                    config.dropout, config.bias}));
  ln_2 = register_module("ln_2", nn::LayerNorm(channels, config.bias));
  mlp = register_module("mlp", nn::Mlp(channels, config.dropout, config.bias));
  {
    const at::NoGradGuard no_grad;
    const double scale = 1 / std::sqrt(2.0 * static_cast<double>(config.layers));
    attn->c_proj->weight.mul_(scale);
    mlp->c_proj->weight.mul_(scale);
  }
  if (config.scheme != "revffn") return;
  // The root mean square of a token's embedding plus its position's, the first layer's input.
  const double rms = std::sqrt(2.0) * kStd;
  const double std = nn::contracting_std(channels, config.heads, config.layers, kStd, rms);
  p_up = register_module("p_up", nn::Linear(channels / 2, channels, false, kStd));
  p_down = register_module("p_down", nn::Linear(channels, channels / 2, false, std));
}

std::vector<engine::FieldPtr> make_fields(const Block& block, const std::string& scheme) {
  nn::LayerNorm ln_1 = block->ln_1, ln_2 = block->ln_2;
  nn::Attention attn = block->attn;
  nn::Mlp mlp = block->mlp;
  if (scheme != "revffn") return make_block_fields(ln_1, attn, ln_2, mlp, scheme);

  nn::Linear p_up = block->p_up, p_down = block->p_down;
  const auto g = [=](TensorList y, bool need_value) mutable {
    return p_down->forward(mlp->forward(ln_2->operand(p_up->forward(y[0]))), need_value);
  };
  using Modules = BlockField::Modules;
  return {
      std::make_shared<CrossAttentionField>(
          nn::CrossAttention(p_up, ln_1, attn, p_down),
          Modules{p_up.ptr(), ln_1.ptr(), attn.ptr(), p_down.ptr()}),
      std::make_shared<BlockField>(g, Modules{p_up.ptr(), ln_2.ptr(), mlp.ptr(), p_down.ptr()})};
}

}  // namespace rev::models
