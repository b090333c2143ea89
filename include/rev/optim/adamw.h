// AdamW (Loshchilov and Hutter, arXiv 1711.05101): with g the gradient and t the step, counted from
// 1,
//
//   w <- w - lr decay w                                   decay acts on the weights, not on g
//   m <- beta1 m + (1 - beta1) g       v <- beta2 v + (1 - beta2) g^2
//   w <- w - lr (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)
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
};

class AdamW {
 public:
  /// Throws c10::Error where betas are not in [0,1), eps or a decay is negative, or a name comes
  /// twice.
  explicit AdamW(std::vector<ParameterGroup> groups, const AdamWOptions& options = {});

  /// One step with the gradients as they are. A parameter without a gradient stays, moments
  /// included.
  void step(double lr);

  /// Forgets all gradients.
  void zero_grad();

  /// All parameters, group by group.
  std::vector<at::Tensor> parameters() const;

  /// The moments and steps, `<name>.exp_avg`, `<name>.exp_avg_sq` and `<name>.step` for each
  /// parameter: the tensors themselves, not copies.
  base::NamedTensors state() const;

  /// Copies moments and steps from `state`, whatever its order. Throws c10::Error naming every
  /// tensor that is missing, unexpected or of the wrong shape, before anything is changed.
  void load_state(const base::NamedTensors& state);

 private:
  struct Slot {
    std::string name;
    at::Tensor parameter;
    at::Tensor exp_avg;     // m
    at::Tensor exp_avg_sq;  // v
    at::Tensor step;        // t, a float32 scalar
  };
  struct Group {
    std::vector<Slot> slots;
    double weight_decay;
  };

  AdamWOptions options_;
  std::vector<Group> groups_;
};

}  // namespace rev::optim
