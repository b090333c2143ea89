#include "rev/schemes/hamiltonian.h"

#include <cmath>

#include "rev/schemes/digits.h"
#include "schemes/streams.h"

namespace rev::schemes {

using at::Tensor;

Hamiltonian::Hamiltonian(double a) : a_(nearest_ratio(a)), b_{a_.m, a_.n, a_.negative} {}

StateOptions Hamiltonian::plan(int64_t n_layers, StateOptions options) const {
  std::vector<kernels::Ratio> products;
  for (int64_t l = 0; l < n_layers; ++l) products.insert(products.end(), {a_, b_});
  if (options.dtype == at::kInt) options.digits = plan_digits(products, "hamiltonian");
  return options;
}

State Hamiltonian::begin(const Tensor& x, const StateOptions& options,
                         const Tensor& saturated) const {
  State s;
  s.bits = options.bits;
  s.p = kernels::encode(x, options.dtype, options.bits, {{}, {}, flag(saturated, 1)});
  s.q = s.p.clone();
  start_digits(s, options);
  return s;
}

Tensor Hamiltonian::begin_adjoint(const State& g) const { return sum(g.q, g.p); }

void Hamiltonian::advance_q(State& s, const Fields& f, Witness& w) const {
  own_(s.digits);
  const Tensor attention = f(0, {value(s, s.p)});
  own_(s.q);
  kernels::scale_(s.q, s.digits, a_, before_step(w, &Witness::sums_q, s.q, 0));
  kernels::update_(s.q, attention, 1.0, s.bits, {{}, {}, flag(w, 0)});
}

void Hamiltonian::step(int64_t, State& s, const Fields& f, Witness& w) const {
  advance_q(s, f, w);
  const Tensor mlp = f(1, {value(s, s.q)});
  own_(s.p);
  kernels::scale_(s.p, s.digits, b_, before_step(w, &Witness::sums_p, s.p, 1));
  kernels::update_(s.p, mlp, 1.0, s.bits, {{}, {}, flag(w, 1)});
}

void Hamiltonian::evaluate(int64_t, State s, const Fields& f) const {
  Witness none;
  advance_q(s, f, none);
  f(1, {value(s, s.q)});
}

void Hamiltonian::undo(int64_t, State& s, const Fields& f, const Witness& left,
                       Witness& rebuilt) const {
  own_(s.digits);
  const Tensor mlp = f(1, {value(s, s.q)});
  own_(s.p);
  kernels::update_(s.p, mlp, -1.0, s.bits);
  kernels::unscale_(s.p, s.digits, b_, after_undo(left, rebuilt, &Witness::sums_p, s.p));

  const Tensor attention = f(0, {value(s, s.p)});
  own_(s.q);
  kernels::update_(s.q, attention, -1.0, s.bits);
  kernels::unscale_(s.q, s.digits, a_, after_undo(left, rebuilt, &Witness::sums_q, s.q));
}

void Hamiltonian::adjoint(int64_t, State& g, const Pullback& df) const {
  g.q = sum(g.q, df(1, g.p)[0]);
  g.p = sum(times(b_.value(), g.p), df(0, g.q)[0]);
  g.q = times(a_.value(), g.q);
}

std::optional<double> Hamiltonian::stable_norm(int64_t) const {
  return 2.0 + std::fabs(a_.value() + b_.value());
}

}  // namespace rev::schemes
