// How strongly layers stretch what they read: what linear stability (schemes/stability.h) is held
// against.
#pragma once

#include <ATen/core/Tensor.h>
#include <cstdint>
#include <vector>

#include "rev/engine/field.h"
#include "rev/engine/stack.h"

namespace rev::engine {

/// The largest singular value of J = df/dx at x (all inputs as one vector), from below, by power
/// iteration on J^T J from a random start:
///
///   u <- J v / |J v|        v <- J^T u / |J^T u|        sigma = |J^T u|
///
/// J v is a central difference, whose error turns u but cannot lift sigma above the norm; J^T u is
/// `Field::linearise`'s pullback. Runs in the dtype of x with autocast off. A pure function of its
/// arguments and of the generators' state, which every evaluation starts from; the generators and
/// the field's buffers are left as found. iterations: at least 1, each 2 evaluations and a
/// pullback. Not a number where f is not.
double jacobian_norm(Field& f, at::TensorList x, int64_t iterations, uint64_t seed);

/// jacobian_norm of every field of a stack at what it reads on the way of the input x [B,T,C]:
/// norms[l][k] for field k of layer l. No graph is recorded; buffers are left as found.
std::vector<std::vector<double>> jacobian_norms(const Stack& stack, const at::Tensor& x,
                                                int64_t iterations, uint64_t seed);

}  // namespace rev::engine
