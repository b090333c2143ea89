#pragma once

#include <ATen/core/Tensor.h>
#include <functional>
#include <memory>
#include <vector>

#include "rev/data/batches.h"
#include "rev/engine/stack.h"
#include "rev/optim/adamw.h"

namespace rev::train {

/// A step of training that lies on the device: forward, backward, clipping and AdamW go on without
/// a wait, and what they found out is read once, at the end. On a CUDA device it becomes a CUDA
/// graph (base::RepeatedWork); on the CPU it is the same work with the same bits.
///
/// Where a state left the grid or was not rebuilt, or the gradients' norm is not finite, the
/// weights, moments and counts of steps stay as they are.
class DeviceStep {
 public:
  /// The mean loss of a micro-batch, a scalar with a graph; inputs and targets [B,T] int64. It must
  /// not wait for the device, and should draw random numbers by rev's own operators.
  using Loss = std::function<at::Tensor(const at::Tensor& inputs, const at::Tensor& targets)>;

  /// What a step did, for its record.
  struct Result {
    double loss;       ///< mean of the micro-batches
    double grad_norm;  ///< before it was limited
  };

  /// max_norm: what the norm of all gradients is limited to; infinity: not. `stack` is the one that
  /// `loss` runs; it and the optimizer outlive this. Throws c10::Error for a RevFFN stack, whose
  /// inversion waits for the device in every layer, and for parameters that are neither float32 nor
  /// bfloat16.
  DeviceStep(Loss loss, engine::Stack& stack, optim::AdamW& optimizer, double max_norm);
  ~DeviceStep();
  DeviceStep(const DeviceStep&) = delete;
  DeviceStep& operator=(const DeviceStep&) = delete;

  /// One step with the rate lr from one or more micro-batches, as many and of the same shapes as at
  /// the first call (throws c10::Error otherwise). Throws Saturated and NotInvertible as the
  /// stack's passes do.
  Result run(const std::vector<data::Batch>& batches, double lr);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace rev::train
