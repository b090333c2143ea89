// The cross-entropy of a row of logits x with a target t, and its gradient:
//
//   lse = log sum_j e^x_j,   loss = lse - x_t + z lse^2
//   dloss/dx_j = (1 + 2 z lse) e^(x_j - lse) - [j = t]
//
// z lse^2 (arXiv 2204.02311, section 5) keeps lse near 0. e^(x_j - lse) is taken as
// e^(x_j - max) / sum_k e^(x_k - max): lse itself has rounded.
#pragma once

#include <cmath>
#include <cstdint>

#include "cuda/exp_math.h"
#include "cuda/host_device.h"
#include "cuda/softmax_math.h"

namespace rev::cuda {

/// What a cross-entropy is made with.
struct CrossEntropy {
  float z_loss = 0;  ///< z
  float factor = 1;  ///< of the gradient
};

struct RowLoss {
  float lse;
  float loss;
  float slope;  ///< the gradient is slope e^(x_j - max), less the factor at the target
};

REV_HOST_DEVICE RowLoss row_loss(const Softmax& softmax, float target_logit,
                                 const CrossEntropy& terms) {
  const LogSum log = log_sum(softmax, 1.0f);
  const float lse = log.whole;
  const float entropy = (softmax.max - target_logit) + log.above;
  return {lse, fmaf(terms.z_loss * lse, lse, entropy),
          terms.factor * fmaf(2.0f * terms.z_loss, lse, 1.0f) / softmax.sum};
}

/// The gradient where j is not the target.
REV_HOST_DEVICE float cross_entropy_gradient(float x, float max, float slope) {
  return exp_or_zero(x - max) * slope;
}

}  // namespace rev::cuda
