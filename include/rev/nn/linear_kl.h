// The divergence of a student's next-token distribution from a teacher's, in chunks of tokens, so
// that neither's logits [N,V] are ever whole.
#pragma once

#include <ATen/core/Tensor.h>
#include <cstdint>

#include "rev/kernels/kl.h"

namespace rev::nn {

using kernels::Divergence;

struct LinearKlOptions {
  Divergence direction = Divergence::Forward;
  double temperature = 1;   ///< logits are divided by it
  at::Tensor targets = {};  ///< undefined, or int64 [N]; tokens with kIgnoreIndex take no part
  int64_t chunk = 1024;     ///< tokens at a time; two chunks of logits take 8 V chunk bytes
};

/// mean over n of KL(softmax(y_n U^T / temperature) || softmax(x_n W^T / temperature)), or the
/// other way round (arXiv 2512.02056, eq 31; see `kernels::kl`).
///
/// Student: x [N,C], weight W [V,C]. Teacher: y [N,C'], weight U [V,C'], which get no gradient.
/// Returns a scalar in float32 (float64 for float64). Products are taken in autocast's dtype where
/// it is on, the teacher's in the student's; the rest is as `linear_cross_entropy` says. (Where a
/// temperature is used the loss is often multiplied by its square, so that gradients keep their
/// size: that is left to the caller.) Throws c10::Error where shapes or options do not fit, and on
/// a second derivative.
at::Tensor linear_kl(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& teacher_x,
                     const at::Tensor& teacher_weight, const LinearKlOptions& options = {});

}  // namespace rev::nn
