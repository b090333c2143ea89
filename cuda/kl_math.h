// The Kullback-Leibler divergence of two rows of logits, a teacher's t and a student's s, at a
// temperature 1 / scale, and its gradient with respect to s:
//
//   log p_j = t_j scale - lse(t scale),   log q_j = s_j scale - lse(s scale)
//   forward:  KL(p || q) = sum_j p_j (log p_j - log q_j),   d/ds_j = scale (q_j - p_j)
//   reverse:  R = KL(q || p) = sum_j q_j (log q_j - log p_j),
//             d/ds_j = scale q_j (log q_j - log p_j - R)
//
// Terms with a probability of 0 are 0. Logarithms are taken from the maximum on, not by
// lse, which would cancel.
#pragma once

#include <cstdint>

#include "cuda/exp_math.h"
#include "cuda/host_device.h"
#include "cuda/softmax_math.h"

namespace rev::cuda {

/// A row of logits as log-probabilities and probabilities.
struct Distribution {
  float max;
  float scale;
  float above;    ///< log sum_j e^((x_j - max) scale)
  float inverse;  ///< 1 / sum_j e^((x_j - max) scale)
};

REV_HOST_DEVICE Distribution distribution(const Softmax& softmax, float scale) {
  return {softmax.max, scale, log_sum(softmax, scale).above, 1.0f / softmax.sum};
}

/// An element's probabilities, and the logarithm of their quotient.
struct Pair {
  float p, q;
  float log_ratio;  ///< log p - log q
};

REV_HOST_DEVICE Pair pair(float t, float s, const Distribution& teacher,
                          const Distribution& student) {
  const float t_above = (t - teacher.max) * teacher.scale;
  const float s_above = (s - student.max) * student.scale;
  return {exp_or_zero(t_above) * teacher.inverse, exp_or_zero(s_above) * student.inverse,
          (t_above - teacher.above) - (s_above - student.above)};
}

/// What an element adds to the divergence.
template <bool kReverse>
REV_HOST_DEVICE float divergence_term(const Pair& e) {
  const float weight = kReverse ? e.q : e.p;
  const float term = weight * (kReverse ? -e.log_ratio : e.log_ratio);
  return weight == 0.0f ? 0.0f : term;
}

/// The gradient times slope / scale. divergence: the whole row's; only the reverse one needs it.
template <bool kReverse>
REV_HOST_DEVICE float divergence_gradient(const Pair& e, float divergence, float slope) {
  const float forward = (e.q - e.p) * slope;
  const float reverse = e.q == 0.0f ? 0.0f : e.q * (-e.log_ratio - divergence) * slope;
  return kReverse ? reverse : forward;
}

}  // namespace rev::cuda
