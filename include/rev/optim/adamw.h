// AdamW (Loshchilov and Hutter, arXiv 1711.05101): with g the gradient and t the step, counted from
// 1,
//
//   w <- w - lr decay w                                   decay acts on the weights, not on g
//   m <- beta1 m + (1 - beta1) g       v <- beta2 v + (1 - beta2) g^2
//   w <- w - lr (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)
//
// float32 and bfloat16 parameters take kernels::adamw_, all of them in one call, with the same bits
// on every device; others take LibTorch's fused step in their own dtype.
#pragma once

#include <ATen/core/Tensor.h>
#include <cstdint>
#include <string>
#include <vector>

#include "rev/base/named_tensors.h"

namespace rev::optim {

/// Parameters that share a weight decay.
struct ParameterGroup {
  base::NamedTensors parameters;
  double weight_decay = 0;
};

/// Two groups: tensors of two and more dimensions, which decay, and the others (biases, norms),
/// which do not. Tensors that do not require a gradient are left out.
std::vector<ParameterGroup> decay_matrices(const base::NamedTensors& parameters,
                                           double weight_decay);

struct AdamWOptions {
  double beta1 = 0.9;
  double beta2 = 0.95;
  double eps = 1e-8;
  /// 32, or 8 for block-wise codes (see rev/kernels/adamw.h) as the moments of parameters of 4096
  /// elements and more; smaller ones, norms and biases, keep float32: it is little.
  int64_t state_bits = 32;
  /// Keeps a float32 copy of each bfloat16 parameter, without which steps below 2^-9 of a weight
  /// are lost.
  bool master_weights = false;
};

/// What a step reads on the parameters' device. Nothing of it crosses to the host, so that a step
/// that is captured in a CUDA graph takes what is there when it is replayed.
struct StepTensors {
  at::Tensor lr;    ///< float32, one number
  at::Tensor clip;  ///< float32, one number that gradients are multiplied by; undefined: 1
  at::Tensor skip;  ///< int32, one number: where it is not 0, nothing changes; undefined: 0
};

class AdamW {
 public:
  /// Throws c10::Error where betas are not in [0,1), eps or a decay is negative, state_bits are not
  /// 8 or 32, or a name comes twice.
  explicit AdamW(std::vector<ParameterGroup> groups, const AdamWOptions& options = {});

  /// One step with the gradients as they are. A parameter without a gradient stays, moments
  /// included.
  void step(double lr);

  /// The same, with what is on the device. (Parameters of other dtypes than float32 and bfloat16
  /// need it on the host.)
  void step(const StepTensors& tensors);

  /// Forgets all gradients.
  void zero_grad();

  /// All parameters, group by group.
  std::vector<at::Tensor> parameters() const;

  /// The moments and steps, `<name>.exp_avg`, `<name>.exp_avg_sq` and `<name>.step` for each
  /// parameter; with 8 bits also `<name>.exp_avg_scale` and `<name>.exp_avg_sq_scale`, and
  /// `<name>.master` where there is a copy. The tensors themselves, not copies.
  base::NamedTensors state() const;

  /// Copies moments and steps from `state`, whatever its order. Throws c10::Error naming every
  /// tensor that is missing, unexpected or of the wrong shape, before anything is changed.
  void load_state(const base::NamedTensors& state);

 private:
  struct Slot {
    std::string name;
    at::Tensor parameter;
    at::Tensor exp_avg;                          // m
    at::Tensor exp_avg_sq;                       // v
    at::Tensor step;                             // t, a float32 scalar
    at::Tensor exp_avg_scale, exp_avg_sq_scale;  // undefined with 32 bits
    at::Tensor master;                           // undefined without one
  };
  struct Group {
    std::vector<Slot> slots;
    double weight_decay;
  };

  Slot make_slot(const std::string& name, const at::Tensor& parameter) const;
  void step_by_kernel(const StepTensors& tensors);
  void step_by_torch(double lr, double clip);
  at::Tensor first_with_gradient(bool by_kernel) const;

  AdamWOptions options_;
  std::vector<Group> groups_;
};

}  // namespace rev::optim
