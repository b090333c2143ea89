// What the schemes share: reading, copying and summing the streams of a state.
#pragma once

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros_like.h>

#include "rev/kernels/grid.h"
#include "rev/schemes/scheme.h"

namespace rev::schemes {

/// The value of a stream that a field reads.
inline at::Tensor value(const State& s, const at::Tensor& stream) {
  return kernels::decode(stream, s.bits);
}

/// The value of a stream, never its own memory.
inline at::Tensor value_copy(const State& s, const at::Tensor& stream) {
  return stream.scalar_type() == at::kInt ? value(s, stream) : stream.clone();
}

/// Before writing in place: makes t the only user of its memory, so that states kept elsewhere and
/// values read by a graph stay as they are.
inline void own_(at::Tensor& t) {
  if (t.defined() && (t.use_count() > 1 || t.storage().use_count() > 1)) t = t.clone();
}

inline at::Tensor new_sums(const at::Tensor& stream) {
  return at::empty({stream.numel() / stream.size(-1)}, stream.options().dtype(at::kLong));
}

/// Gives a state that starts its buffer of kept digits, where `Scheme::plan` asks for one.
inline void start_digits(State& s, const StateOptions& options) {
  if (options.digits == at::ScalarType::Undefined) return;
  s.digits = at::zeros_like(s.p, s.p.options().dtype(options.digits));
}

/// The flag of stream 0 (q) or 1 (p) among `saturated` [2], or nothing where it is not watched.
inline at::Tensor flag(const at::Tensor& saturated, int64_t stream) {
  return saturated.defined() ? saturated.narrow(0, stream, 1) : at::Tensor();
}
inline at::Tensor flag(const Witness& w, int64_t stream) { return flag(w.saturated, stream); }

/// Probes that take a stream's sums before a step, into the witness, or after undoing it.
inline kernels::Probe before_step(Witness& w, at::Tensor Witness::*sums, const at::Tensor& stream,
                                  int64_t which) {
  if (w.wanted) w.*sums = new_sums(stream);
  return {w.*sums, {}, flag(w, which)};
}
inline kernels::Probe after_undo(const Witness& left, Witness& rebuilt, at::Tensor Witness::*sums,
                                 const at::Tensor& stream) {
  if ((left.*sums).defined()) rebuilt.*sums = new_sums(stream);
  return {{}, rebuilt.*sums, {}};
}

/// a + b where an undefined gradient counts as zero.
inline at::Tensor sum(const at::Tensor& a, const at::Tensor& b) {
  if (!a.defined()) return b;
  if (!b.defined()) return a;
  return a + b;
}

/// c g where an undefined gradient counts as zero.
inline at::Tensor times(double c, const at::Tensor& g) {
  return !g.defined() || c == 1.0 ? g : g * c;
}

}  // namespace rev::schemes
