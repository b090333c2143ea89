// One layer of GPT-2 with its parameters, and that layer as the fields that each scheme couples.
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>
#include <vector>

#include "rev/engine/field.h"
#include "rev/models/gpt2_config.h"
#include "rev/nn/attention.h"
#include "rev/nn/linear.h"
#include "rev/nn/mlp.h"
#include "rev/nn/norm.h"

namespace rev::models {

/// The parameters of a layer, under Hugging Face's names.
///
/// Weights ~ N(0, 0.02^2), those of both c_proj divided by sqrt(2 L); p_up and p_down are RevFFN's
/// adapters, one pair for both paths, p_down as `nn::contracting_std` says.
class BlockImpl : public torch::nn::Module {
 public:
  explicit BlockImpl(const Gpt2Config& config);

  nn::LayerNorm ln_1{nullptr};
  nn::Attention attn{nullptr};
  nn::LayerNorm ln_2{nullptr};
  nn::Mlp mlp{nullptr};
  nn::Linear p_up{nullptr};    ///< [C/2,C], revffn only
  nn::Linear p_down{nullptr};  ///< [C,C/2], revffn only
};
TORCH_MODULE(Block);

/// The layer's fields: those of `make_block_fields`, and
///   revffn        f(x1, x2) = P_down Attn(Q: LN1 P_up x1, K, V: LN1 P_up x2)
///                 g(y) = P_down MLP(LN2 P_up y)
std::vector<engine::FieldPtr> make_fields(const Block& block, const std::string& scheme);

}  // namespace rev::models
