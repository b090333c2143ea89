#pragma once

#include <ATen/core/Tensor.h>
#include <cstdint>
#include <vector>

#include "rev/models/gpt2.h"

namespace rev::train {

/// A layer's Jacobian beside the largest with which its scheme can be stable.
struct LayerJacobian {
  int64_t layer = 0;
  double norm = 0;   ///< largest singular value; Hamiltonian: that of f times that of g
  double limit = 0;  ///< see `schemes::Scheme::stable_norm`
};

/// The layers whose Jacobian norm leaves the stable band at what they read for tokens int64 [B,T],
/// in order; none for schemes without a band.
///
/// Measured in the weights' precision by 10 power iterations a field (`engine::jacobian_norm`),
/// which give a norm from below: a layer that is named is beyond. The same for the same weights and
/// tokens; generators are left as found. Put the model into evaluation before.
std::vector<LayerJacobian> unstable_layers(models::Gpt2& model, const at::Tensor& tokens);

}  // namespace rev::train
