// RevFFN (arXiv 2512.20920): two half-width streams, cross-attention from one to the other.
//
//   Y1 = X1 + f(X1, X2)      f: queries from X1, keys and values from X2, between P-up and P-down
//   Y2 = X2 + g(Y1)          g: the MLP (or experts) on the result
//
// The second line is undone explicitly. The first is implicit in X1, because its queries come from
// the stream that it updates: X1 = Y1 - f(X1, X2) is iterated from Y1, which converges where f
// contracts in X1. For fixed X2 the map acts on each token alone, so tokens that have settled drop
// out.
//
// On the grid the fixed point need not be unique: the rounded map may move neighbouring cells by a
// unit more than f's contraction says, and some tokens flicker for ever. So the low bits of X1 are
// kept from forward; the iteration stops where a token moves by less than they can tell apart, they
// pick the cell, and the row sum proves the choice. Tokens that it refutes are iterated further
// with forward's own arithmetic, whole and at its shapes, from which the map on single tokens may
// differ in its roundings.
//
// Under bfloat16 f is a staircase: an element of X1 that crosses a rounding boundary moves f at
// once by the step of bfloat16 there, hundreds of cells. So more bits are kept, whose reach is
// wider than such a jump, and f should give its value in float32 (its last product outside
// autocast).
#pragma once

#include "rev/schemes/scheme.h"

namespace rev::schemes {

struct RevFFNOptions {
  /// Bits kept of each element of X1: 2, 4, 8 or 16, or 0 to choose 2, and 16 under autocast. More
  /// stop earlier and forgive coarser arithmetic: in a trial under bfloat16 with contractions to
  /// 0.8, 16 bits rebuilt every token after 2 to 13 evaluations; 8 bits did at 0.08, not at 0.4.
  int64_t low_bits = 0;
  int64_t max_evaluations = 64;  ///< of the map on single tokens, after which iterating is given up
  int64_t max_corrections = 8;   ///< evaluations of the whole field for tokens that sums refute
};

/// The papers' block; field 0 is f (two inputs), field 1 is g. The input's channels are split in
/// halves, [B,T,C] -> X1, X2 [B,T,C/2], and the result is [Y1, Y2] again.
class RevFFN final : public Scheme {
 public:
  explicit RevFFN(RevFFNOptions options = {});

  std::string name() const override { return "revffn"; }
  int64_t fields_per_layer() const override { return 2; }
  State begin(const at::Tensor& x, const StateOptions& options,
              const at::Tensor& saturated) const override;
  at::Tensor begin_adjoint(const State& g) const override;
  at::Tensor finish(const State& s) const override;
  State finish_adjoint(const at::Tensor& grad) const override;
  void step(int64_t l, State& s, const Fields& f, Witness& w) const override;
  void evaluate(int64_t l, State s, const Fields& f) const override;
  /// Writes what the iteration saw into `rebuilt`: `contraction`, `evaluations`. Throws
  /// NotInvertible (base/error.h) where tokens do not settle. Where g's value is refuted, X1 is not
  /// solved for and its sums are not written; f is evaluated all the same, at Y1. Waits for the
  /// device: each evaluation of the fixed point decides whether there is another.
  void undo(int64_t l, State& s, const Fields& f, const Witness& left,
            Witness& rebuilt) const override;
  void adjoint(int64_t l, State& g, const Pullback& df) const override;

 private:
  void advance_x1(State& s, const Fields& f, Witness& w) const;

  RevFFNOptions options_;
};

}  // namespace rev::schemes
