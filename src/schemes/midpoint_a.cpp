#include "rev/schemes/midpoint_a.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <random>
#include <utility>

#include "rev/kernels/low_bits.h"
#include "rev/schemes/digits.h"
#include "schemes/streams.h"

namespace rev::schemes {
namespace {

// std::uniform_real_distribution differs between libraries; the generator itself does not.
double uniform(std::mt19937_64& generator) {
  return static_cast<double>(generator() >> 11) * 0x1.0p-53;
}

// On a grid without a buffer of digits |a| is 1, where nothing is lost, or 2^-s.
bool is_shift(const State& s, const kernels::Ratio& a) {
  return s.q.scalar_type() == at::kInt && !s.digits.defined() && a.m > 1;
}

kernels::Shift as_shift(const kernels::Ratio& a) {
  return {std::countr_zero(static_cast<uint64_t>(a.m)), a.negative};
}

}  // namespace

MidpointA::MidpointA(const std::vector<double>& a, std::vector<double> h, Start start)
    : TwoStep("midpoint-a", std::move(h), start) {
  for (const double weight : a) a_.push_back(nearest_ratio(weight));
}

MidpointA::MidpointA(const std::vector<double>& a, double h, Start start)
    : MidpointA(a, std::vector<double>{h}, start) {}

double MidpointA::a(int64_t l) const {
  TORCH_CHECK(l >= 0 && l < static_cast<int64_t>(a_.size()),
              "midpoint-a: expected a layer from 0 to ", static_cast<int64_t>(a_.size()) - 1,
              ", got ", l);
  return a_[l].value();
}

std::vector<double> MidpointA::draw(int64_t n, uint64_t seed) {
  std::mt19937_64 generator(seed);
  std::vector<double> a(n);
  for (double& weight : a) {
    const double sign = uniform(generator) < 0.5 ? -1.0 : 1.0;
    weight = sign + uniform(generator) - 0.5;
  }
  return a;
}

std::vector<double> MidpointA::draw_pairs(int64_t n, uint64_t seed) {
  std::vector<double> a = draw(n, seed);
  for (size_t l = 1; l < a.size(); l += 2) {
    const double before = nearest_ratio(a[l - 1]).value();
    a[l] = std::copysign(std::ceil(256.0 / std::fabs(before)) / 256.0, a[l]);
  }
  return a;
}

StateOptions MidpointA::plan(int64_t n_layers, StateOptions options) const {
  TORCH_CHECK(static_cast<int64_t>(a_.size()) == n_layers, "midpoint-a: ", n_layers,
              " layers need as many weights a, got ", a_.size());
  TORCH_CHECK(n_steps() == 1 || n_steps() == a_.size(), "midpoint-a: ", n_layers,
              " layers need one step h or as many, got ", n_steps());
  const std::vector<kernels::Ratio> used(a_.begin() + (starts(0) ? 1 : 0), a_.end());
  const bool are_shifts =
      std::all_of(used.begin(), used.end(), [](const kernels::Ratio& a) { return a.n == 1; });
  if (options.dtype == at::kInt && !are_shifts) options.digits = plan_digits(used, "midpoint-a");
  return options;
}

State MidpointA::begin(const at::Tensor& x, const StateOptions& options,
                       const at::Tensor& saturated) const {
  State s = TwoStep::begin(x, options, saturated);
  start_digits(s, options);
  return s;
}

void MidpointA::advance(int64_t l, State& s, const at::Tensor& f, const kernels::Probe& probe,
                        Witness& w) const {
  if (is_shift(s, a_[l])) {
    const kernels::Shift a = as_shift(a_[l]);
    const at::Tensor planes = kernels::bit_planes(s.q, a.places);
    kernels::shift_down_(s.q, planes, a, probe);
    if (w.wanted) w.low_bits = planes;
  } else {
    own_(s.digits);
    kernels::scale_(s.q, s.digits, a_[l], probe);
  }
  kernels::blend_(s.q, s.p, 1.0 - a(l), f, h(l), s.bits, {{}, {}, probe.saturated});
}

void MidpointA::retreat(int64_t l, State& s, const at::Tensor& f, const kernels::Probe& probe,
                        const Witness& left) const {
  kernels::blend_(s.q, s.p, -(1.0 - a(l)), f, -h(l), s.bits);
  if (is_shift(s, a_[l])) {
    kernels::shift_up_(s.q, left.low_bits, as_shift(a_[l]), probe);
  } else {
    own_(s.digits);
    kernels::unscale_(s.q, s.digits, a_[l], probe);
  }
}

}  // namespace rev::schemes
