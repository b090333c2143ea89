#include "rev/models/generate.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/multinomial.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/topk.h>
#include <algorithm>
#include <limits>
#include <tuple>

#include "rev/nn/key_value_cache.h"

namespace rev::models {

namespace {

using at::Tensor;

// Evaluation mode for a scope.
class EvalGuard {
 public:
  explicit EvalGuard(CausalLm& model) : model_(model), was_training_(model.is_training()) {
    model_.eval();
  }
  ~EvalGuard() { model_.train(was_training_); }
  EvalGuard(const EvalGuard&) = delete;
  EvalGuard& operator=(const EvalGuard&) = delete;

 private:
  CausalLm& model_;
  bool was_training_;
};

// p [V] without all but the fewest largest whose sum is at least top_p.
Tensor nucleus(const Tensor& p, double top_p) {
  const auto [sorted, order] = p.sort(/*dim=*/0, /*descending=*/true);
  const Tensor before = sorted.cumsum(0) - sorted;
  return p.index_fill(0, order.masked_select(before >= top_p), 0);
}

// logits [V] on the CPU, float64
int64_t draw(Tensor logits, const SamplingOptions& options, const at::Generator& generator) {
  if (options.temperature == 0) return logits.argmax().item<int64_t>();
  if (options.top_k > 0 && options.top_k < logits.numel()) {
    const Tensor lowest = std::get<0>(logits.topk(options.top_k)).min();
    logits = logits.masked_fill(logits < lowest, -std::numeric_limits<double>::infinity());
  }
  Tensor p = at::softmax(logits / options.temperature, 0);
  if (options.top_p < 1) p = nucleus(p, options.top_p);
  return at::multinomial(p, 1, false, generator).item<int64_t>();
}

}  // namespace

std::vector<int64_t> generate(CausalLm& model, std::vector<int64_t> tokens,
                              const SamplingOptions& options) {
  TORCH_CHECK(!tokens.empty(), "generate: there is no token to go on from");
  for (const int64_t token : tokens) {
    TORCH_CHECK(token >= 0 && token < model.vocab(), "generate: token ", token,
                " is outside of the vocabulary of ", model.vocab());
  }
  TORCH_CHECK(options.n_tokens >= 0 && options.temperature >= 0 && options.top_k >= 0,
              "generate: n_tokens, temperature and top_k are ", options.n_tokens, ", ",
              options.temperature, " and ", options.top_k, ", expected none below 0");
  TORCH_CHECK(options.top_p > 0 && options.top_p <= 1, "generate: top_p is ", options.top_p,
              ", expected 0 < top_p <= 1");

  const at::NoGradGuard no_grad;
  const EvalGuard eval(model);
  const at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(options.seed);
  const c10::Device device = model.head().device();
  nn::KeyValueCache cache;
  std::vector<int64_t> drawn;
  while (std::ssize(drawn) < options.n_tokens) {
    // In a longer text the window moves, and all positions with it: nothing kept is right.
    const int64_t size = std::ssize(tokens), seq = model.seq();
    const int64_t begin = size <= seq ? cache.size() : size - seq;
    const Tensor input =
        at::tensor(at::ArrayRef<int64_t>(tokens).slice(static_cast<size_t>(begin))).to(device);
    const Tensor logits = model.next(input.unsqueeze(0), size <= seq ? &cache : nullptr);
    const int64_t token = draw(logits.squeeze(0).to(at::kCPU, at::kDouble), options, generator);
    drawn.push_back(token);
    tokens.push_back(token);
    if (std::count(options.stop.begin(), options.stop.end(), token) != 0) break;
  }
  return drawn;
}

}  // namespace rev::models
