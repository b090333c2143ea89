#include "rev/models/generate.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/multinomial.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/topk.h>
#include <algorithm>
#include <limits>

namespace rev::models {

namespace {

using at::Tensor;

// Evaluation mode for a scope.
class EvalGuard {
 public:
  explicit EvalGuard(Gpt2& model) : model_(model), was_training_(model->is_training()) {
    model_->eval();
  }
  ~EvalGuard() { model_->train(was_training_); }
  EvalGuard(const EvalGuard&) = delete;
  EvalGuard& operator=(const EvalGuard&) = delete;

 private:
  Gpt2 model_;
  bool was_training_;
};

// logits [V] on the CPU, float64
int64_t draw(Tensor logits, const SamplingOptions& options, const at::Generator& generator) {
  if (options.temperature == 0) return logits.argmax().item<int64_t>();
  if (options.top_k > 0 && options.top_k < logits.numel()) {
    const Tensor lowest = std::get<0>(logits.topk(options.top_k)).min();
    logits = logits.masked_fill(logits < lowest, -std::numeric_limits<double>::infinity());
  }
  const Tensor p = at::softmax(logits / options.temperature, 0);
  return at::multinomial(p, 1, false, generator).item<int64_t>();
}

}  // namespace

std::vector<int64_t> generate(Gpt2& model, std::vector<int64_t> tokens,
                              const SamplingOptions& options) {
  const Gpt2Config& config = model->config();
  TORCH_CHECK(!tokens.empty(), "generate: there is no token to go on from");
  for (const int64_t token : tokens) {
    TORCH_CHECK(token >= 0 && token < config.vocab, "generate: token ", token,
                " is outside of the vocabulary of ", config.vocab);
  }
  TORCH_CHECK(options.n_tokens >= 0 && options.temperature >= 0 && options.top_k >= 0,
              "generate: n_tokens, temperature and top_k are ", options.n_tokens, ", ",
              options.temperature, " and ", options.top_k, ", expected none below 0");

  const at::NoGradGuard no_grad;
  const EvalGuard eval(model);
  const at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(options.seed);
  const c10::Device device = model->parameters().front().device();
  const size_t n_given = tokens.size();
  for (int64_t i = 0; i < options.n_tokens; ++i) {
    const auto window = std::min<std::ptrdiff_t>(config.seq, std::ssize(tokens));
    const Tensor input =
        at::tensor(at::ArrayRef<int64_t>(tokens.data() + tokens.size() - window, window))
            .to(device);
    const Tensor logits = model->next(input.unsqueeze(0)).squeeze(0);
    tokens.push_back(draw(logits.to(at::kCPU, at::kDouble), options, generator));
  }
  return {tokens.begin() + static_cast<std::ptrdiff_t>(n_given), tokens.end()};
}

}  // namespace rev::models
