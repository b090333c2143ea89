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
// with forward's own arithmetic, whole and at its shapes: under bfloat16 the map on single tokens
// rounds otherwise than forward did, by more than a cell. There f should give its value in float32
// (its last product outside autocast): steps of bfloat16 are hundreds of cells, more than low bits
// can tell apart.
#pragma once

#include "rev/schemes/scheme.h"

namespace rev::schemes {

struct RevFFNOptions {
  /// Bits kept of each element of X1: 2, 4 or 8, or 0 to choose 2, and 8 under autocast. More stop
  /// earlier and forgive coarser arithmetic.
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
  void prepare(int64_t n_layers, const StateOptions& options) override;
  State begin(const at::Tensor& x, const StateOptions& options,
              const at::Tensor& saturated) const override;
  at::Tensor begin_adjoint(const State& g) const override;
  at::Tensor finish(const State& s) const override;
  State finish_adjoint(const at::Tensor& grad) const override;
  void step(int64_t l, State& s, const Fields& f, Witness& w) const override;
  void evaluate(int64_t l, State s, const Fields& f) const override;
  /// Writes what the iteration saw into `rebuilt`: `contraction`, `evaluations`. Throws
  /// NotInvertible (base/error.h) where tokens do not settle.
  void undo(int64_t l, State& s, const Fields& f, const Witness& left,
            Witness& rebuilt) const override;
  void adjoint(int64_t l, State& g, const Pullback& df) const override;

 private:
  void advance_x1(State& s, const Fields& f, Witness& w) const;

  RevFFNOptions options_;
};

}  // namespace rev::schemes
