// A scheme is the rule that couples fields into an invertible step. It sees tensors and callables
// only: no modules, no autograd. Three verbs say all of it, and algebra alone tests them:
//
//   step     (q, p)_l      -> (q, p)_{l+1}
//   undo     (q, p)_{l+1}  -> (q, p)_l          the same bits on the grid
//   adjoint  gradients of (q, p)_{l+1} -> gradients of (q, p)_l
#pragma once

#include <ATen/core/Tensor.h>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace rev::schemes {

/// The two streams that a scheme carries, each [B,T,C] (RevFFN: [B,T,C/2]).
///
/// midpoint, midpoint(a), leapfrog: q = p^(l-1), p = p^(l). Hamiltonian: q, p. RevFFN: q = X1, p =
/// X2. residual: p alone. Elements are int32 cells of 2^-bits (the grid), float32 or float64.
struct State {
  at::Tensor q;
  at::Tensor p;
  at::Tensor digits;  ///< what multiplications by a non-integer took from the grid; else undefined
  int64_t bits = 16;  ///< k of the grid's unit 2^-k
};

/// How the elements of a state are held.
struct StateOptions {
  at::ScalarType dtype = at::kInt;  ///< kInt: the grid; kFloat, kDouble: plain floating point
  int64_t bits = 16;                ///< grid: unit 2^-bits, range +-2^(31-bits); 1 to 30

  /// int32 or int64, of `State::digits`; Undefined where there are none. `Scheme::plan` decides it.
  at::ScalarType digits = at::ScalarType::Undefined;
};

/// What a step leaves behind so that undoing it can be exact, and proved.
struct Witness {
  bool wanted = false;  ///< take row sums (and low bits) in this step
  at::Tensor sums_q;    ///< [B*T] int64: row sums of q before the step, where the step changes q
  at::Tensor sums_p;    ///< the same of p; at a two-step scheme's start, of p after the step
  at::Tensor low_bits;  ///< RevFFN: low bits of X1, packed; midpoint(a) with |a| = 2^-s: those of q
  int64_t n_low_bits = 0;  ///< RevFFN: how many of each element
  double rounding = 0.0;   ///< RevFFN: epsilon of the dtype that autocast ran products in, or 0
  at::Tensor saturated;  ///< [2] int32: 1 where q, p left the grid's range; undefined: not watched
  double contraction =
      0.0;  ///< RevFFN, undoing: largest factor by which the iteration's moves shrank
  int64_t evaluations = 0;  ///< RevFFN, undoing: evaluations that the fixed point took
};

/// The fields of one layer, as a scheme calls them.
class Fields {
 public:
  virtual ~Fields() = default;

  /// Field k of the layer at the values x (floating point, not cells).
  virtual at::Tensor operator()(int64_t k, at::TensorList x) const = 0;

  /// Field k as a map on single tokens for a fixed second input: see `engine::Field::token_map`.
  /// Only undoing RevFFN asks for it; the default throws c10::Error.
  virtual std::function<at::Tensor(const at::Tensor& rows, const at::Tensor& index)> token_map(
      int64_t k, const at::Tensor& x1_like, const at::Tensor& x2) const;
};

/// Gradient of the value of the layer's field k -> gradients of its inputs.
using Pullback = std::function<std::vector<at::Tensor>(int64_t k, const at::Tensor& grad)>;

/// The rule of a whole stack; layer l counts from 0.
class Scheme {
 public:
  virtual ~Scheme() = default;

  virtual std::string name() const = 0;
  virtual int64_t fields_per_layer() const { return 1; }
  virtual bool invertible() const { return true; }

  /// `options` completed for a stack of n_layers. Throws c10::Error where the scheme cannot carry
  /// it.
  virtual StateOptions plan(int64_t /*n_layers*/, StateOptions options) const { return options; }

  /// The state that the input x [B,T,C] starts as, and the gradient of x from that of the state.
  /// options: of `plan`. saturated: as Witness::saturated.
  virtual State begin(const at::Tensor& x, const StateOptions& options,
                      const at::Tensor& saturated = {}) const = 0;
  virtual at::Tensor begin_adjoint(const State& g) const = 0;

  /// The result [B,T,C] (floating point) of the last state, and the state's gradient from its. The
  /// default: the stream p.
  virtual at::Tensor finish(const State& s) const;
  virtual State finish_adjoint(const at::Tensor& grad) const;

  virtual void step(int64_t l, State& s, const Fields& f, Witness& w) const = 0;

  /// Calls the fields of layer l where the step from s does, and no more: the last value is not
  /// read.
  virtual void evaluate(int64_t l, State s, const Fields& f) const = 0;

  /// What `evaluate` reads of a state.
  virtual State needed(const State& s) const { return s; }

  /// Undoes layer l. `left` is what the step left behind; the row sums of the rebuilt streams are
  /// written into `rebuilt`, for the caller to compare.
  virtual void undo(int64_t l, State& s, const Fields& f, const Witness& left,
                    Witness& rebuilt) const = 0;

  virtual void adjoint(int64_t l, State& g, const Pullback& df) const = 0;

  /// A bound on |lambda| of layer l's field (Hamiltonian: on |lambda mu|, f's times g's): beyond it
  /// a growth factor of linear stability (schemes/stability.h) exceeds max(1, |a|), whatever
  /// lambda's argument. Sharp for midpoint, leapfrog and Hamiltonian. |2 h lambda| <= 2 for
  /// midpoint, h^2 |lambda| <= 4 for leapfrog, |h lambda| <= 1 + |a| + |1 - a| for midpoint(a),
  /// |lambda mu| <= 2 + |a + 1/a| for Hamiltonian. None for schemes and layers that are not of this
  /// form (an Euler start, residual, RevFFN).
  virtual std::optional<double> stable_norm(int64_t /*l*/) const { return std::nullopt; }
};

}  // namespace rev::schemes
