#include "rev/retrofit/comparison.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/matmul.h>
#include <algorithm>
#include <cmath>

#include "rev/engine/trajectory.h"
#include "rev/kernels/cross_entropy.h"
#include "rev/kernels/kl.h"

namespace rev::retrofit {
namespace {

using at::Tensor;

constexpr int64_t kChunk = 1024;  // tokens whose logits are held at a time

void check_alike(models::CausalLm& original, models::CausalLm& converted) {
  const auto check = [](const char* what, int64_t of_original, int64_t of_converted) {
    TORCH_CHECK(of_original == of_converted, "compare: the original has ", of_original, " ", what,
                ", the converted model ", of_converted);
  };
  check("tokens in its vocabulary", original.vocab(), converted.vocab());
  check("channels", original.head().size(1), converted.head().size(1));
  check("layers", original.stack().n_layers(), converted.stack().n_layers());
}

double sum_of_squares(const Tensor& x) { return x.to(at::kDouble).square_().sum().item<double>(); }

}  // namespace

Comparison compare(models::CausalLm& original, models::CausalLm& converted,
                   const std::vector<TextBatch>& text) {
  check_alike(original, converted);
  const at::NoGradGuard no_graph;
  const auto n_layers = static_cast<size_t>(original.stack().n_layers());
  std::vector<double> off(n_layers), size(n_layers);
  Comparison sums;
  for (const auto& [tokens, targets] : text) {
    std::vector<Tensor> points;  // of the original
    engine::trajectory(original.stack(), original.embed(tokens),
                       [&](int64_t, const Tensor& p) { points.push_back(p.clone()); });
    Tensor end;
    engine::trajectory(converted.stack(), converted.embed(tokens), [&](int64_t l, const Tensor& p) {
      const auto i = static_cast<size_t>(l);
      off[i] += sum_of_squares(p - points[i]);
      size[i] += sum_of_squares(points[i]);
      end = p;
    });
    const Tensor x = original.norm(points.back()).flatten(0, 1);  // [N,C]
    const Tensor y = converted.norm(end).flatten(0, 1);
    const Tensor target = targets.flatten();
    for (int64_t begin = 0; begin < x.size(0); begin += kChunk) {
      const int64_t n = std::min(kChunk, x.size(0) - begin);
      const auto logits = [&](const Tensor& hidden, const Tensor& head) {
        return at::matmul(hidden.narrow(0, begin, n), head.t()).to(at::kFloat);
      };
      const Tensor p = logits(x, original.head()), q = logits(y, converted.head());  // [n,V]
      const Tensor t = target.narrow(0, begin, n), counts = t.ne(kernels::kIgnoreIndex);
      const auto add = [](double& sum, const Tensor& rows) {
        sum += rows.to(at::kDouble).sum().item<double>();
      };
      add(sums.kl, kernels::kl(p, q, {kernels::Divergence::Forward, 1, t}));
      add(sums.original_loss, kernels::cross_entropy(p, t));
      add(sums.converted_loss, kernels::cross_entropy(q, t));
      add(sums.agreement, p.argmax(1).eq(q.argmax(1)).logical_and(counts));
      sums.tokens += counts.sum().item<int64_t>();
    }
  }
  TORCH_CHECK(sums.tokens > 0, "compare: there is no token to predict");
  const auto n = static_cast<double>(sums.tokens);
  for (double* sum : {&sums.kl, &sums.agreement, &sums.original_loss, &sums.converted_loss}) {
    *sum /= n;
  }
  for (size_t l = 0; l < n_layers; ++l) sums.layer_error.push_back(std::sqrt(off[l] / size[l]));
  return sums;
}

}  // namespace rev::retrofit
