// The Kullback-Leibler divergence of a student's next-token distribution from a teacher's, for
// distillation (arXiv 2512.02056, eq 31). Its gradient takes the place of the student's logits.
//
//   p = softmax(t / temperature),   q = softmax(s / temperature)
//   forward:  KL(p || q) = sum_j p_j (log p_j - log q_j)
//   reverse:  KL(q || p) = sum_j q_j (log q_j - log p_j)
#pragma once

#include <ATen/core/Tensor.h>

namespace rev::kernels {

enum class Divergence {
  Forward,  ///< KL(p || q): the student is to cover all that the teacher finds likely
  Reverse,  ///< KL(q || p): the student is to say nothing that the teacher finds unlikely
};

/// What a divergence is taken of.
struct KlOptions {
  Divergence direction = Divergence::Forward;
  double temperature = 1;   ///< finite, at least 2^-126
  at::Tensor targets = {};  ///< undefined, or int64 [N]; rows with kIgnoreIndex take no part
};

/// The divergence of each row, [N] float32.
///
/// teacher, student: [N,V], float32 or bfloat16, of one dtype and device, the elements of a row
/// side by side, rows any distance apart. Everything is computed in float32, and the CPU and the
/// GPU give the same bits, but for NaN (Note [Same bits], dtype.h), whatever the number of threads;
/// a divergence near 0 may be below it by rounding. Terms with a probability of 0 are 0, and
/// infinite where only the other one is 0. Ignored rows give 0. Throws c10::Error where shapes,
/// dtypes, devices or options do not fit.
at::Tensor kl(const at::Tensor& teacher, const at::Tensor& student, const KlOptions& options = {});

/// The same, and the student's logits become the gradient of the sum of the divergences with
/// respect to them, times `factor`, rounded to their dtype; 0 in ignored rows.
at::Tensor kl_(const at::Tensor& teacher, at::Tensor& student, const KlOptions& options = {},
               double factor = 1);

}  // namespace rev::kernels
