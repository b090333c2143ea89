#pragma once

#include <algorithm>
#include <functional>
#include <torch/torch.h>
#include <vector>

namespace rev::support {

/// The largest difference between a gradient by autograd and by central differences, over all
/// elements of `inputs` (float64 leaves), of the scalar sum(w f), w a fixed pattern without
/// symmetry; relative to sum |w f| where that exceeds 1.
///
/// With steps of 1e-6 the scalar's rounding, 1e-16 of its terms, is amplified to 1e-10; the third
/// derivative adds 1e-12. f is evaluated many times and must give the same result for the same
/// inputs.
inline double gradient_error(const std::function<at::Tensor()>& f,
                             const std::vector<at::Tensor>& inputs) {
  const auto terms = [&f] {
    const at::Tensor y = f();
    return y * at::arange(1, y.numel() + 1, y.options()).cos().view(y.sizes());
  };
  for (const at::Tensor& x : inputs) TORCH_CHECK(x.scalar_type() == at::kDouble && x.is_leaf());
  const auto grads = torch::autograd::grad({terms().sum()}, inputs);

  const at::NoGradGuard no_grad;
  const double scale = std::max(1.0, terms().abs().sum().item<double>());
  const double step = 1e-6;
  double worst = 0;
  for (size_t i = 0; i < inputs.size(); ++i) {
    at::Tensor x = inputs[i].view(-1);
    const at::Tensor grad = grads[i].reshape(-1);
    for (int64_t j = 0; j < x.numel(); ++j) {
      const double here = x[j].item<double>();
      x[j] = here + step;
      const double up = terms().sum().item<double>();
      x[j] = here - step;
      const double down = terms().sum().item<double>();
      x[j] = here;
      worst = std::max(worst, std::abs((up - down) / (2 * step) - grad[j].item<double>()));
    }
  }
  return worst / scale;
}

/// What `gradient_error` may reach by rounding alone, 1e-16 / 1e-6, times 100.
inline constexpr double kGradientTolerance = 1e-8;

/// Leaves that require gradients, normal and independent of other draws.
inline at::Tensor leaf(at::IntArrayRef sizes, at::ScalarType dtype = at::kDouble,
                       double scale = 1) {
  return (torch::randn(sizes, dtype) * scale).detach().requires_grad_();
}

}  // namespace rev::support
