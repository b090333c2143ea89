// Windows of T + 1 tokens, cut into what a model reads and what it shall say: inputs are the first
// T, targets the last T. Windows may cross documents.
#pragma once

#include <ATen/core/Tensor.h>
#include <cstdint>

#include "rev/data/token_source.h"

namespace rev::data {

struct Batch {
  at::Tensor inputs;   ///< [B,T] int64, contiguous, CPU
  at::Tensor targets;  ///< [B,T] int64: targets[b,t] is the token after inputs[b,t]
};

/// Which random batch of a run. A run's data position is these three numbers and nothing else.
struct BatchPosition {
  std::uint64_t seed = 0;
  std::int64_t step = 0;        ///< optimizer step
  std::int64_t micro_step = 0;  ///< of an accumulated step
};

/// B windows, each at a place drawn uniformly and independently from all N - T.
///
/// A pure function of its arguments: row b is drawn by Philox4x32-10 with key `seed` and counter
/// (step, micro_step B + b). So a resumed run reads what an uninterrupted one would, and k
/// micro-steps of B windows read the same windows as one step of k B.
///
/// Throws c10::Error where tokens has fewer than T + 1.
Batch random_batch(const TokenSource& tokens, std::int64_t B, std::int64_t T,
                   const BatchPosition& position);

/// How many windows of T follow each other without sharing a target: floor((N - 1) / T). The up to
/// T - 1 tokens after the last are left out.
std::int64_t count_windows(const TokenSource& tokens, std::int64_t T);

/// The windows first, first + 1, ..: B of them, or those that are left (at least one).
///
/// Window w reads tokens [w T, w T + T], so that every target is met once over all of them. Throws
/// c10::Error where there is no window `first`.
Batch sequential_batch(const TokenSource& tokens, std::int64_t first, std::int64_t B,
                       std::int64_t T);

}  // namespace rev::data
