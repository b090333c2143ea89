#include <chrono>
#include <fmt/format.h>
#include <functional>
#include <torch/torch.h>
#include <utility>

#include "bench/commands.h"
#include "rev/kernels/activation.h"
#include "rev/kernels/adamw.h"
#include "rev/kernels/cross_entropy.h"
#include "rev/kernels/dropout.h"
#include "rev/kernels/embedding.h"
#include "rev/kernels/global_norm.h"
#include "rev/kernels/kl.h"
#include "rev/kernels/moe.h"
#include "rev/kernels/norm.h"

namespace rev::bench {
namespace {

using at::Tensor;

// An operator, and what LibTorch's operators take to give the same results.
struct Pair {
  std::string name;
  std::function<void()> ours, torchs;
};

// What the operators read, in the dtype of activations.
struct Inputs {
  explicit Inputs(const OperatorsOptions& o)
      : floats(torch::TensorOptions().device(o.device)),
        activations(floats.dtype(o.bfloat16 ? at::kBFloat16 : at::kFloat)),
        x(torch::randn({o.rows, o.channels}).to(activations)),
        dy(torch::randn({o.rows, o.channels}).to(activations)),
        weight(torch::randn({o.channels}, floats)),
        bias(torch::randn({o.channels}, floats)),
        wide(torch::randn({o.rows, 4 * o.channels}).to(activations)),
        dwide(torch::randn({o.rows, 4 * o.channels}).to(activations)),
        wide_bias(torch::randn({4 * o.channels}).to(activations)),
        logits(torch::randn({o.rows, o.vocab}).to(activations)),
        teacher(torch::randn({o.rows, o.vocab}).to(activations)),
        targets(torch::randint(o.vocab, {o.rows}, floats.dtype(at::kLong))),
        tokens(torch::randint(o.vocab, {o.rows}, floats.dtype(at::kLong))),
        scores(torch::randn({o.rows, 64}).to(activations)) {}

  at::TensorOptions floats, activations;
  Tensor x, dy, weight, bias, wide, dwide, wide_bias, logits, teacher, targets, tokens, scores;
};

std::vector<Pair> layers(const Inputs& in, const OperatorsOptions& o) {
  const at::ScalarType dtype = in.x.scalar_type();
  const int64_t width = o.channels;
  // ATen wants weights of x's dtype.
  const Tensor w = in.weight.to(dtype), b = in.bias.to(dtype);
  const auto n = kernels::layer_norm(in.x, in.weight, in.bias, 1e-5, dtype);
  const auto m = at::native_layer_norm(in.x, {width}, w, b, 1e-5);
  const Tensor gate = in.wide, up = in.dwide;
  return {
      {"layer_norm", [=] { kernels::layer_norm(in.x, in.weight, in.bias, 1e-5, dtype); },
       [=] { at::native_layer_norm(in.x, {width}, w, b, 1e-5); }},
      {"layer_norm_backward",
       [=] { kernels::layer_norm_backward(in.dy, in.x, in.weight, n.mean, n.rstd); },
       [=] {
         at::native_layer_norm_backward(in.dy, in.x, {width}, std::get<1>(m), std::get<2>(m), w, b,
                                        {true, true, true});
       }},
      {"rms_norm", [=] { kernels::rms_norm(in.x, in.weight, 1e-5, dtype); },
       [=] { at::rms_norm(in.x, {width}, w, 1e-5); }},
      {"bias_gelu", [=] { kernels::bias_gelu(in.wide, in.wide_bias); },
       [=] { at::gelu(in.wide + in.wide_bias, "tanh"); }},
      {"bias_gelu_backward",
       [=] {
         kernels::bias_gelu_backward(in.dwide, in.wide, in.wide_bias, {true, false, false});
       },
       [=] { at::gelu_backward(in.dwide, in.wide + in.wide_bias, "tanh").sum(0); }},
      {"swiglu", [=] { kernels::swiglu(gate, up); }, [=] { at::silu(gate) * up; }},
      {"dropout",
       [=] {
         kernels::philox_dropout(in.x, 0.1, {1, 0});
       },
       [=] { at::native_dropout(in.x, 0.1, true); }},
      {"embedding_backward", [=] { kernels::embedding_backward(in.dy, in.tokens, o.vocab, dtype); },
       [=] { at::embedding_dense_backward(in.dy, in.tokens, o.vocab, -1, false); }},
      {"route to 8 of 64", [=] { kernels::route(in.scores, 8, true); },
       [=] {
         const Tensor p = std::get<0>(in.scores.softmax(1, at::kFloat).topk(8));
         p.div(p.sum(1, true));
       }},
  };
}

std::vector<Pair> losses_and_optimizer(const Inputs& in) {
  const auto ce_by_torch = [=] {
    const Tensor log_p = at::log_softmax(in.logits, 1, at::kFloat);
    at::nll_loss(log_p, in.targets, {}, at::Reduction::None);
    Tensor p = log_p.exp();
    p.scatter_add_(1, in.targets.unsqueeze(1),
                   torch::full({in.targets.size(0), 1}, -1.0, in.floats));
    p.to(in.logits.scalar_type());
  };
  const auto kl_by_torch = [=] {
    const Tensor p = at::log_softmax(in.teacher, 1, at::kFloat);
    const Tensor q = at::log_softmax(in.logits, 1, at::kFloat);
    at::kl_div(q, p, at::Reduction::None, /*log_target=*/true).sum(1);
    (q.exp() - p.exp()).to(in.logits.scalar_type());
  };
  const int64_t n = in.wide.numel();
  const auto like = [&] { return torch::zeros({n}, in.floats); };
  const Tensor weight = torch::randn({n}, in.floats), grad = torch::randn({n}, in.floats);
  kernels::AdamWTensor tensor;
  tensor.weight = weight.clone();
  tensor.grad = grad;
  tensor.exp_avg = like();
  tensor.exp_avg_sq = like();
  tensor.step = torch::zeros({}, in.floats);
  tensor.weight_decay = 0.1;
  kernels::AdamWStep step;
  step.lr = torch::full({}, 1e-3, in.floats);
  const std::vector<Tensor> weights = {weight.clone()}, grads = {grad}, m = {like()}, v = {like()},
                            steps = {torch::zeros({}, in.floats)};
  // The gradients of losses go over their logits, which changes the numbers and not the work.
  Tensor logits = in.logits.clone(), student = in.logits.clone();
  return {
      {"cross_entropy with its gradient",
       [=]() mutable { kernels::cross_entropy_(logits, in.targets); }, ce_by_torch},
      {"kl with its gradient", [=]() mutable { kernels::kl_(in.teacher, student); }, kl_by_torch},
      {"adamw", [=] { kernels::adamw_({tensor}, step); },
       [=] {
         at::_fused_adamw_(weights, grads, m, v, {}, steps, 1e-3, 0.9, 0.95, 0.1, 1e-8, false,
                           false);
       }},
      {"global_norm", [=] { kernels::global_norm({grad}); },
       [=] { at::linalg_vector_norm(grad, 2); }},
  };
}

double seconds_of(const std::function<void()>& run, const OperatorsOptions& o) {
  const auto wait = [&] {
    if (o.device.is_cuda()) torch::cuda::synchronize();
  };
  wait();
  const auto start = std::chrono::steady_clock::now();
  for (int64_t i = 0; i < o.calls; ++i) run();
  wait();
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  return took.count() / static_cast<double>(o.calls);
}

}  // namespace

Table operators(const OperatorsOptions& o) {
  torch::manual_seed(1);
  const at::NoGradGuard no_graph;
  const Inputs in(o);
  std::vector<Pair> pairs = layers(in, o);
  for (Pair& pair : losses_and_optimizer(in)) pairs.push_back(std::move(pair));

  Table table{{"operator", "ms", "LibTorch's", "ratio", "least", "largest"}, {}};
  for (const Pair& pair : pairs) {
    std::vector<double> ours, torchs, ratios;
    for (int64_t round = -1; round < o.rounds; ++round) {  // the first warms up
      const double a = seconds_of(pair.ours, o), b = seconds_of(pair.torchs, o);
      if (round < 0) continue;
      ours.push_back(a * 1e3);
      torchs.push_back(b * 1e3);
      ratios.push_back(a / b);
    }
    const Spread ratio = spread(ratios);
    table.rows.push_back({pair.name, fmt::format("{:.3f}", spread(ours).median),
                          fmt::format("{:.3f}", spread(torchs).median),
                          fmt::format("{:.2f}", ratio.median), fmt::format("{:.2f}", ratio.least),
                          fmt::format("{:.2f}", ratio.largest)});
  }
  return table;
}

}  // namespace rev::bench
