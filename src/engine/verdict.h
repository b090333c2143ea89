// What passes find out about states: whether they stayed on the grid, and whether they were rebuilt
// bit for bit. It gathers on the states' device, where nobody waits for it, until it is read.
#pragma once

#include <ATen/core/Tensor.h>
#include <string>
#include <vector>

#include "rev/engine/stack.h"

namespace rev::engine {

class Verdict {
 public:
  Verdict(const schemes::Scheme& scheme, const schemes::StateOptions& options, size_t n_layers,
          c10::Device device);

  c10::Device device() const { return saturated_.device(); }

  /// Witness::saturated of a layer, or, -1, of the input.
  at::Tensor saturated(int64_t layer) const;

  /// Notes the rows in which sums `is` of a rebuilt stream ('q' or 'p') differ from forward's.
  /// contraction: largest that the layer's fixed point saw.
  void compare(int64_t layer, char stream, const at::Tensor& was, const at::Tensor& is,
               double contraction);

  /// Waits for the device. Throws Saturated where a state left the grid's range, the first to do
  /// so.
  void check_saturation();

  /// Waits for the device, and moves what was compared in layers `lowest` to `highest` to the
  /// report. Throws NotInvertible where rows on the grid differ, of the highest such layer: it
  /// was rebuilt first.
  void check_rows(int64_t lowest, int64_t highest, Report& report);

  /// Starts afresh, in the same memory.
  void forget();

  /// int32 [1] on the device: not zero where one of them would throw.
  at::Tensor flaw() const;

  /// Of the device's memory.
  int64_t bytes() const;

 private:
  std::string scheme_;
  schemes::StateOptions options_;
  int64_t n_layers_;
  at::Tensor saturated_;             // [L + 1, 2] int32
  at::Tensor rows_;                  // [2 L, ..], of kernels::new_row_records
  std::vector<double> contraction_;  // [L]
};

}  // namespace rev::engine
