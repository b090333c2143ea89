// One pass through a stack: forward's loop, what it leaves behind, and backward's loop.
#pragma once

#include <ATen/core/Tensor.h>
#include <memory>
#include <optional>
#include <torch/custom_class.h>
#include <vector>

#include "engine/verdict.h"
#include "rev/base/autocast_state.h"
#include "rev/base/rng_state.h"
#include "rev/engine/stack.h"

namespace rev::engine {

/// A layer as a pass sees it.
struct Layer {
  Memory memory = Memory::Invert;
  std::vector<FieldPtr> fields;
  std::vector<std::vector<size_t>> slots;  // of each field's parameters, among those of the pass
};

class Walk final : public torch::CustomClassHolder {
 public:
  /// deferred: where the pass leaves what it finds out about states; null: it throws by itself.
  Walk(std::shared_ptr<const schemes::Scheme> scheme, std::vector<Layer> layers,
       schemes::StateOptions options, Sink sink, std::shared_ptr<Report> report,
       std::shared_ptr<Verdict> deferred);

  /// Each parameter once, in the order of its first use.
  const std::vector<at::Tensor>& parameters() const { return parameters_; }

  /// The result for x, keeping what backward needs.
  at::Tensor forward(const at::Tensor& x);

  /// Gradients of x, then of the parameters. With `keep` it may be called again.
  std::vector<at::Tensor> backward(const at::Tensor& grad, bool keep);

 private:
  // What forward leaves of a layer.
  struct Trace {
    schemes::Witness witness;
    std::vector<base::RngState> rng;      // before each field
    std::vector<Linearised> graphs;       // Store: of each field
    std::optional<schemes::State> input;  // where it cannot be had from the next layer
  };
  class Forward;
  class Backward;

  void keep_input(size_t l, const schemes::State& s);
  void rebuild(size_t l, schemes::State& s, const Backward& fields);
  void check_unchanged(size_t l) const;
  void take_gradients(size_t l, int64_t k, const std::vector<at::Tensor>& found,
                      std::vector<at::Tensor>& gradients) const;
  void give_to_sink(size_t l, std::vector<at::Tensor>& gradients) const;
  void report_forward();

  std::shared_ptr<const schemes::Scheme> scheme_;
  std::vector<Layer> layers_;
  std::vector<at::Tensor> parameters_;
  std::vector<int64_t> versions_;  // of the parameters, in forward
  std::vector<size_t> last_use_;   // of each parameter, in backward's order: the lowest layer
  schemes::StateOptions options_;
  Sink sink_;
  std::shared_ptr<Report> report_;
  std::shared_ptr<Verdict> verdict_;
  bool is_deferred_;

  base::AutocastState autocast_;
  c10::Device device_ = c10::kCPU;
  std::vector<Trace> traces_;
  std::optional<schemes::State> final_;
  bool spent_ = false;
};

/// The result for x where no gradient is wanted: nothing is kept. deferred: as Walk's. Where
/// gradients could be wanted (grad mode is on) a field that reads a tensor which requires one is
/// refused: no gradient would reach it.
at::Tensor infer(const schemes::Scheme& scheme, const std::vector<Layer>& layers,
                 const schemes::StateOptions& options, const std::shared_ptr<Verdict>& deferred,
                 const at::Tensor& x);

}  // namespace rev::engine
