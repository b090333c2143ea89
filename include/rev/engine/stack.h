// A stack: L layers under one scheme, one node of the autograd graph.
//
// Memory is two states and one layer's graph, whatever L, when the layers are inverted: backward
// walks from the last layer to the first, evaluates each field once with a graph, and uses that one
// evaluation both to rebuild the layer's input and to differentiate the layer.
#pragma once

#include <ATen/core/Tensor.h>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "rev/engine/field.h"
#include "rev/schemes/scheme.h"

namespace rev::engine {

/// What a layer keeps between forward and backward.
enum class Memory {
  Store,       ///< every activation: the layer's graph, as in ordinary training
  Checkpoint,  ///< the layer's input; the layer is evaluated again in backward
  Invert,      ///< nothing but what proves the reconstruction: the input is rebuilt from the output
};

/// What forward and backward passes saw since `Stack::take_report`.
struct Report {
  int64_t rows_checked = 0;    ///< rows of rebuilt states compared with forward's sums
  int64_t rows_differing = 0;  ///< the drift: rows that were not rebuilt bit for bit
  int64_t witness_bytes =
      0;  ///< most that one pass kept for exactness: row sums, low bits, generators
  double contraction = 0.0;  ///< RevFFN: largest that a fixed point saw
  int64_t evaluations = 0;   ///< RevFFN: most evaluations that a layer's fixed point took
};

/// Receives layer l's parameter gradients as soon as they are final, in the order of
/// `Stack::layer_parameters(l)`, and keeps those that it takes by resetting them; what it leaves is
/// returned by the node at the end, as without a sink. Undefined are those of frozen parameters,
/// and those of parameters that a lower layer reads too: they come with the lowest such layer.
using Sink = std::function<void(int64_t l, std::vector<at::Tensor>& grads)>;

struct StackOptions {
  Memory memory = Memory::Invert;
  schemes::StateOptions state;  ///< the grid unless said otherwise
  Sink sink;

  /// Passes do not wait for the device to learn whether their states were right, so that they can
  /// be captured in a CUDA graph: `Stack::check` tells it, and `Stack::flaw`. (Inverting RevFFN
  /// waits all the same: its fixed point decides on the host whether to go on, and a layer whose
  /// tokens do not settle throws NotInvertible in backward.)
  bool defer_checks = false;
};

/// A handle: copies share everything, as those of a `torch::nn` module do, so that `set_memory`,
/// `set_sink` and `take_report` of one are of all. It is no module and registers nothing: register
/// the fields' modules with the model that owns the stack, so that an optimizer finds their
/// parameters and `to` and `train` reach them.
class Stack {
 public:
  /// layers[l]: the fields of layer l, as many as the scheme asks for; the second form is for
  /// schemes of one field a layer. Throws c10::Error where counts or options do not fit.
  Stack(std::shared_ptr<const schemes::Scheme> scheme, std::vector<std::vector<FieldPtr>> layers,
        StackOptions options = {});
  Stack(std::shared_ptr<const schemes::Scheme> scheme, const std::vector<FieldPtr>& fields,
        StackOptions options = {});

  /// The scheme's result for the input x [B,T,C], floating point. Gradients reach x and the
  /// parameters; a second derivative is refused.
  ///
  /// Throws Saturated (base/error.h) where a state leaves the grid's range. In backward, throws
  /// NotInvertible where a layer's input cannot be rebuilt bit for bit; no gradient is returned
  /// then. (With `StackOptions::defer_checks` it is `check` that throws, except for RevFFN's fixed
  /// point.) Throws c10::Error where a field reads a tensor that requires a gradient and is not
  /// among its parameters, or changes its input in place.
  at::Tensor forward(const at::Tensor& x);
  at::Tensor operator()(const at::Tensor& x) { return forward(x); }

  int64_t n_layers() const;
  const schemes::Scheme& scheme() const;
  const schemes::StateOptions& state() const;  ///< as the scheme planned it

  /// The fields of a layer, as many as the scheme asks for.
  const std::vector<FieldPtr>& fields(int64_t layer) const;

  Memory memory(int64_t layer) const;
  void set_memory(int64_t layer, Memory memory);

  /// For the forwards to come; an empty one takes the sink away.
  void set_sink(Sink sink);

  /// `StackOptions::defer_checks` for the forwards to come.
  void set_defer_checks(bool defer);

  /// Parameters of a layer's fields, each tensor once per layer.
  std::vector<at::Tensor> layer_parameters(int64_t layer) const;

  /// What passes saw since the last call; forgets it. (With `StackOptions::defer_checks` rows are
  /// counted in `check`.)
  Report take_report();

  /// With `StackOptions::defer_checks`: waits for the device and throws what the passes since the
  /// last call would have thrown. Without, nothing is left to throw.
  void check();

  /// With `StackOptions::defer_checks`: int32 [1] on the device of the passes since the last
  /// `check`, not zero where `check` would throw, for an optimizer that then leaves the weights as
  /// they are. Does not wait. Throws c10::Error where checks are not deferred or there was no pass.
  at::Tensor flaw() const;

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace rev::engine
