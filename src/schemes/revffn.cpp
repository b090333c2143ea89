#include "rev/schemes/revffn.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/equal.h>
#include <algorithm>
#include <limits>

#include "rev/base/autocast_state.h"
#include "rev/base/error.h"
#include "rev/kernels/fixed_point.h"
#include "rev/kernels/low_bits.h"
#include "rev/kernels/reconstruction.h"
#include "schemes/streams.h"

namespace rev::schemes {
namespace {

using at::Tensor;
using TokenMap = std::function<Tensor(const Tensor& rows, const Tensor& index)>;

struct FixedPoint {
  Tensor x;               // [N,C]
  int64_t unsettled = 0;  // tokens that still moved by more than the tolerance
  int64_t evaluations = 0;
  double contraction = 0.0;
};

// x = y - f(x) by iteration from x = y on the grid, each token until it moves by no more than
// `settled` cells. y: [N,C].
FixedPoint solve_on_grid(const Tensor& y, int64_t bits, const TokenMap& f, int64_t settled,
                         int64_t max_evaluations) {
  // Moves of a few cells are rounding, not contraction.
  const kernels::MoveLimits limits{settled, 16 * settled};
  FixedPoint found;
  found.x = y.clone();
  kernels::Iterated active{at::arange(y.size(0), y.options().dtype(at::kLong)), {}};
  while (active.index.numel() != 0 && found.evaluations < max_evaluations) {
    const Tensor value = f(kernels::gather_values(found.x, active.index, bits), active.index);
    ++found.evaluations;
    const kernels::Stepped step = kernels::iterate_(found.x, y, value, bits, active, limits);
    if (step.moved_before > 0) {
      found.contraction = std::max(found.contraction, static_cast<double>(step.moved_now) /
                                                          static_cast<double>(step.moved_before));
    }
    active = step.left;
  }
  found.unsettled = active.index.numel();
  return found;
}

// The move below which a token on the grid counts as settled: an eighth of the reach of the kept
// bits (one cell for two bits), which leaves room for the moves to come where f contracts well
// below 1.
int64_t settled_within(int64_t low_bits) {
  return std::max<int64_t>(1, (int64_t{1} << low_bits) / 16);
}

// The same in floats, each token until it moves by a few units in the last place of the largest
// element, or, under autocast, by `rounding` of the largest |f|.
FixedPoint solve_in_floats(const Tensor& y, const TokenMap& f, double rounding,
                           int64_t max_evaluations) {
  const double eps = y.scalar_type() == at::kFloat ? std::numeric_limits<float>::epsilon()
                                                   : std::numeric_limits<double>::epsilon();
  double tolerance = 4.0 * eps * y.abs().max().item<double>();
  FixedPoint found;
  found.x = y.clone();
  Tensor active = at::arange(y.size(0), y.options().dtype(at::kLong));
  Tensor moved_before;  // of each active token
  while (active.numel() != 0 && found.evaluations < max_evaluations) {
    const Tensor x = found.x.index_select(0, active);
    Tensor next = y.index_select(0, active);
    next.sub_(f(x, active).to(y.scalar_type()));
    ++found.evaluations;
    found.x.index_copy_(0, active, next);

    const Tensor moved = (next.to(at::kDouble) - x.to(at::kDouble)).abs_().amax(1);
    if (!moved_before.defined()) {  // the first move is f itself
      tolerance = std::max(tolerance, rounding * moved.max().item<double>());
    } else {
      const double noise = 16.0 * std::max(tolerance, std::numeric_limits<double>::min());
      const Tensor large = moved_before > noise;
      const double before = moved_before.masked_select(large).sum().item<double>();
      const double now = moved.masked_select(large).sum().item<double>();
      if (before > 0.0) found.contraction = std::max(found.contraction, now / before);
    }
    const Tensor moving = ~(moved <= tolerance);  // a token that is not a number has not settled
    active = active.masked_select(moving);
    moved_before = moved.masked_select(moving);
  }
  found.unsettled = active.numel();
  return found;
}

int64_t rows_differing(const Tensor& a, const Tensor& b) {
  return kernels::read_row_record(kernels::compare_rows(a, b)).differing;
}

}  // namespace

RevFFN::RevFFN(RevFFNOptions options) : options_(options) {
  TORCH_CHECK(options.low_bits == 0 || options.low_bits == 2 || options.low_bits == 4 ||
                  options.low_bits == 8 || options.low_bits == 16,
              "revffn: low_bits must be 2, 4, 8, 16 or, to let it choose, 0; got ",
              options.low_bits);
  TORCH_CHECK(options.max_evaluations >= 1, "revffn: max_evaluations must be at least 1, got ",
              options.max_evaluations);
  TORCH_CHECK(options.max_corrections >= 0, "revffn: max_corrections must be at least 0, got ",
              options.max_corrections);
}

State RevFFN::begin(const Tensor& x, const StateOptions& options, const Tensor& saturated) const {
  TORCH_CHECK(x.dim() >= 2 && x.size(-1) % 2 == 0,
              "revffn: the input's channels are split in halves, so C must be even, got ",
              x.sizes());
  const int64_t half = x.size(-1) / 2;
  State s;
  s.bits = options.bits;
  const auto stream = [&](int64_t i) {
    return kernels::encode(x.narrow(-1, i * half, half), options.dtype, options.bits,
                           {{}, {}, flag(saturated, i)});
  };
  s.q = stream(0);
  s.p = stream(1);
  return s;
}

Tensor RevFFN::begin_adjoint(const State& g) const { return at::cat({g.q, g.p}, -1); }

Tensor RevFFN::finish(const State& s) const { return at::cat({value(s, s.q), value(s, s.p)}, -1); }

State RevFFN::finish_adjoint(const Tensor& grad) const {
  const int64_t half = grad.size(-1) / 2;
  State g;
  g.q = grad.narrow(-1, 0, half);
  g.p = grad.narrow(-1, half, half);
  return g;
}

void RevFFN::advance_x1(State& s, const Fields& f, Witness& w) const {
  if (w.wanted) {
    const auto cast = base::AutocastState::capture(s.q.device().type());
    if (s.q.scalar_type() == at::kInt) {
      w.n_low_bits = options_.low_bits != 0 ? options_.low_bits : cast.enabled ? 16 : 2;
      w.low_bits = kernels::pack_low_bits(s.q, w.n_low_bits);
    } else if (cast.enabled && s.q.scalar_type() == at::kFloat) {
      w.rounding = cast.dtype == at::kHalf ? 0x1p-10 : 0x1p-7;
    }
  }
  const Tensor attention = f(0, {value(s, s.q), value(s, s.p)});
  own_(s.q);
  kernels::update_(s.q, attention, 1.0, s.bits, before_step(w, &Witness::sums_q, s.q, 0));
}

void RevFFN::step(int64_t, State& s, const Fields& f, Witness& w) const {
  advance_x1(s, f, w);
  const Tensor mlp = f(1, {value(s, s.q)});
  own_(s.p);
  kernels::update_(s.p, mlp, 1.0, s.bits, before_step(w, &Witness::sums_p, s.p, 1));
}

void RevFFN::evaluate(int64_t, State s, const Fields& f) const {
  Witness none;
  advance_x1(s, f, none);
  f(1, {value(s, s.q)});
}

void RevFFN::undo(int64_t l, State& s, const Fields& f, const Witness& left,
                  Witness& rebuilt) const {
  const Tensor mlp = f(1, {value(s, s.q)});
  own_(s.p);
  kernels::update_(s.p, mlp, -1.0, s.bits, after_undo(left, rebuilt, &Witness::sums_p, s.p));

  const bool provable = left.low_bits.defined();
  if (provable && rows_differing(left.sums_p, rebuilt.sums_p) != 0) {
    f(0, {value(s, s.q), value(s, s.p)});  // the caller's gradient is of both fields
    return;                                // g gave other bits: the caller finds it in the sums
  }

  const Tensor x2 = value(s, s.p);
  const Tensor y1 = s.q;
  const Tensor rows = y1.view({-1, y1.size(-1)});  // [N,C/2]
  const auto map = f.token_map(0, value(s, y1), x2);
  const FixedPoint found =
      y1.scalar_type() == at::kInt
          ? solve_on_grid(rows, s.bits, map, settled_within(left.n_low_bits),
                          options_.max_evaluations)
          : solve_in_floats(rows, map, left.rounding, options_.max_evaluations);
  rebuilt.contraction = found.contraction;
  rebuilt.evaluations = found.evaluations;
  int64_t refuted = found.unsettled;
  s.q = found.x.view(y1.sizes());
  if (provable) {
    rebuilt.sums_q = new_sums(y1);
    s.q = kernels::select_by_low_bits(s.q, left.low_bits, left.n_low_bits, rebuilt.sums_q);
  } else if (left.sums_q.defined()) {
    rebuilt.sums_q = kernels::row_sums(s.q);
  }
  for (int64_t correction = 0;; ++correction) {
    const Tensor attention = f(0, {value(s, s.q), x2});  // the last one is the caller's gradient's
    if (!provable) break;
    refuted = rows_differing(left.sums_q, rebuilt.sums_q);
    if (refuted == 0 || correction == options_.max_corrections) break;
    kernels::correct_(s.q, y1, attention, s.bits, left.low_bits, left.n_low_bits, left.sums_q,
                      rebuilt.sums_q);
  }
  if (refuted != 0) {
    // A field that gives other bits each time leads the iteration astray, too: the caller finds it
    // in the sums.
    const auto evaluate = [&] { return f(0, {value(s, s.q), x2}); };
    if (provable && !at::equal(evaluate(), evaluate())) return;
    throw base::NotInvertible(
        base::NotInvertible::Cause::FixedPoint, l, refuted, found.contraction,
        c10::str(
            "revffn: layer ", l, " cannot be inverted: ", refuted, " of ", rows.size(0),
            " tokens were not rebuilt after ", found.evaluations,
            " evaluations (contraction seen: ", found.contraction,
            ", which must stay well below 1); keep more low bits, or store this layer's state"));
  }
}

void RevFFN::adjoint(int64_t, State& g, const Pullback& df) const {
  g.q = sum(g.q, df(1, g.p)[0]);
  const std::vector<Tensor> through_attention = df(0, g.q);
  g.q = sum(g.q, through_attention[0]);
  g.p = sum(g.p, through_attention[1]);
}

}  // namespace rev::schemes
