#pragma once

#include <ATen/core/Tensor.h>

#include "rev/models/causal_lm.h"
#include "rev/nn/linear_kl.h"

namespace rev::retrofit {

struct DistillationOptions {
  nn::Divergence direction = nn::Divergence::Forward;  ///< Forward: KL(original || converted)
  double temperature = 1;                              ///< of both distributions
  double cross_entropy = 0;  ///< share of the text's own cross-entropy in the loss, 0 to 1
};

/// What makes a converted model say what its original says (arXiv 2512.02056, eq 31), a float32
/// scalar:
///
///   (1 - m) t^2 KL + m cross-entropy,    m = cross_entropy, t = temperature
///
/// means over the tokens [B,T] (int64) whose targets [B,T] are not kIgnoreIndex. With t^2 the
/// gradient keeps its size at any temperature (Hinton et al., arXiv 1503.02531). The original gets
/// no gradient and keeps no graph; put it into evaluation before. Neither model's logits are ever
/// whole: see `nn::linear_kl`. Throws c10::Error where shapes, vocabularies or options do not fit.
at::Tensor distillation_loss(models::CausalLm& original, models::CausalLm& converted,
                             const at::Tensor& tokens, const at::Tensor& targets,
                             const DistillationOptions& options = {});

}  // namespace rev::retrofit
