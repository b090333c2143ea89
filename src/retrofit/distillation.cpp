#include "rev/retrofit/distillation.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>

#include "rev/nn/linear_cross_entropy.h"

namespace rev::retrofit {

using at::Tensor;

Tensor distillation_loss(models::CausalLm& original, models::CausalLm& converted,
                         const Tensor& tokens, const Tensor& targets,
                         const DistillationOptions& options) {
  const double m = options.cross_entropy, t = options.temperature;
  TORCH_CHECK(m >= 0 && m <= 1, "distillation: the share of cross-entropy is ", m,
              ", expected a number from 0 to 1");
  TORCH_CHECK(tokens.sizes() == targets.sizes(), "distillation: tokens are ", tokens.sizes(),
              " but targets ", targets.sizes());
  const Tensor target = targets.flatten();
  Tensor loss;
  const Tensor x = converted.hidden(tokens).flatten(0, 1);  // [BT,C]
  if (m < 1) {
    const Tensor y = [&] {
      const at::NoGradGuard no_graph;
      return original.hidden(tokens).flatten(0, 1);
    }();
    const nn::LinearKlOptions kl{options.direction, t, target};
    loss = nn::linear_kl(x, converted.head(), y, original.head(), kl) * ((1 - m) * t * t);
  }
  if (m > 0) {
    const Tensor own = nn::linear_cross_entropy(x, converted.head(), target) * m;
    loss = loss.defined() ? loss + own : own;
  }
  return loss;
}

}  // namespace rev::retrofit
