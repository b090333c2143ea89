#include "engine/verdict.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/zeros.h>
#include <algorithm>
#include <exception>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <utility>

#include "rev/base/error.h"
#include "rev/kernels/reconstruction.h"

namespace rev::engine {
namespace {

using at::Tensor;

// Places of a layer's streams among the records: the order in which they are looked at. Where p is
// wrong q may not have been solved for.
constexpr char kStreams[] = {'p', 'q'};
int64_t place(int64_t layer, char stream) { return 2 * layer + (stream == kStreams[0] ? 0 : 1); }

}  // namespace

Verdict::Verdict(const schemes::Scheme& scheme, const schemes::StateOptions& options,
                 size_t n_layers, c10::Device device)
    : scheme_(scheme.name()),
      options_(options),
      n_layers_(static_cast<int64_t>(n_layers)),
      saturated_(at::zeros({n_layers_ + 1, 2}, at::TensorOptions(at::kInt).device(device))),
      rows_(kernels::new_row_records(2 * n_layers_, device)),
      contraction_(n_layers) {}

Tensor Verdict::saturated(int64_t layer) const { return saturated_[layer + 1]; }

void Verdict::compare(int64_t layer, char stream, const Tensor& was, const Tensor& is,
                      double contraction) {
  if (!was.defined() || !is.defined()) return;
  kernels::compare_rows(was, is, rows_[place(layer, stream)]);
  double& largest = contraction_[static_cast<size_t>(layer)];
  largest = std::max(largest, contraction);
}

void Verdict::check_saturation() {
  const Tensor flags = saturated_.cpu();
  const auto* begin = flags.const_data_ptr<int32_t>();
  const auto* end = begin + flags.numel();
  const auto* first = std::find_if(begin, end, [](int32_t flag) { return flag != 0; });
  if (first == end) return;
  const auto layer = static_cast<int64_t>(first - begin) / 2 - 1;
  const char stream = (first - begin) % 2 == 0 ? 'q' : 'p';
  const std::string where =
      layer < 0 ? "the input" : fmt::format("the state after layer {}, stream {},", layer, stream);
  throw base::Saturated(layer, stream,
                        fmt::format("{}: {} left the grid's range of +-2^{} or is not a number",
                                    scheme_, where, 31 - options_.bits));
}

void Verdict::check_rows(int64_t lowest, int64_t highest, Report& report) {
  const int64_t n = highest - lowest + 1;
  Tensor records = rows_.narrow(0, 2 * lowest, 2 * n);
  const Tensor read = records.to(at::kCPU, /*non_blocking=*/false, /*copy=*/true);
  records.copy_(kernels::new_row_records(2 * n, device()));

  std::exception_ptr flaw;
  for (int64_t layer = highest; layer >= lowest; --layer) {
    const double contraction = std::exchange(contraction_[static_cast<size_t>(layer)], 0.0);
    for (const char stream : kStreams) {
      const kernels::RowRecord rows =
          kernels::read_row_record(read[place(layer, stream) - 2 * lowest]);
      report.rows_checked += rows.compared;
      report.rows_differing += rows.differing;
      if (rows.differing == 0 || options_.dtype != at::kInt || flaw) continue;
      flaw = std::make_exception_ptr(base::NotInvertible(
          base::NotInvertible::Cause::Field, layer, rows.differing, contraction,
          fmt::format("{}: layer {}, stream {}: {} of {} rows were not rebuilt bit for bit (first: "
                      "{}); a field gave other bits when it was evaluated again: it counts in "
                      "place, draws from a generator of its own, was changed since forward, or ran "
                      "with another number of threads",
                      scheme_, layer, stream, rows.differing, rows.compared,
                      fmt::join(rows.first, ", "))));
    }
  }
  if (flaw) std::rethrow_exception(flaw);
}

void Verdict::forget() {
  saturated_.zero_();
  rows_.copy_(kernels::new_row_records(2 * n_layers_, device()));
  std::fill(contraction_.begin(), contraction_.end(), 0.0);
}

Tensor Verdict::flaw() const {
  Tensor any = saturated_.any();
  if (options_.dtype == at::kInt) {
    any = any.logical_or(rows_.select(1, 1).any());  // rows that differ
  }
  return any.to(at::kInt).view({1});
}

int64_t Verdict::bytes() const {
  return static_cast<int64_t>(saturated_.nbytes() + rows_.nbytes());
}

}  // namespace rev::engine
