// Small stacks of every scheme, for the engine's tests.
#pragma once

#include <ATen/autocast_mode.h>
#include <gtest/gtest.h>
#include <memory>
#include <string>
#include <torch/torch.h>
#include <vector>

#include "rev/base/autocast_state.h"
#include "rev/engine/retrofit.h"
#include "rev/engine/stack.h"
#include "rev/schemes/hamiltonian.h"
#include "rev/schemes/leapfrog.h"
#include "rev/schemes/midpoint.h"
#include "rev/schemes/midpoint_a.h"
#include "rev/schemes/residual.h"
#include "rev/schemes/revffn.h"

namespace rev::engine {

inline constexpr int64_t kChannels = 16;

/// f(x) = W2 tanh(W1 norm(x)) with dropout; small enough that RevFFN's map contracts.
struct BlockImpl : torch::nn::Module {
  BlockImpl(int64_t channels, double dropout_rate, at::ScalarType dtype) : rate(dropout_rate) {
    norm = register_module("norm", torch::nn::LayerNorm(torch::nn::LayerNormOptions({channels})));
    in = register_module("in", torch::nn::Linear(channels, 2 * channels));
    out = register_module("out", torch::nn::Linear(2 * channels, channels));
    const at::NoGradGuard no_grad;
    out->weight.mul_(0.3);
    to(dtype);
  }
  at::Tensor forward(const at::Tensor& x) {
    return torch::dropout(out(torch::tanh(in(norm(x)))), rate, is_training());
  }
  torch::nn::LayerNorm norm{nullptr};
  torch::nn::Linear in{nullptr}, out{nullptr};
  double rate;
};
TORCH_MODULE(Block);

/// One stack with the blocks that its fields are made of.
struct TestStack {
  std::vector<std::vector<Block>> blocks;  // of each layer's fields
  std::unique_ptr<Stack> stack;

  std::vector<at::Tensor> parameters() const {
    std::vector<at::Tensor> all;
    for (const auto& layer : blocks) {
      for (const Block& b : layer) {
        for (const at::Tensor& p : b->parameters()) all.push_back(p);
      }
    }
    return all;
  }
};

struct StackCase {
  std::string scheme = "midpoint";
  int64_t n_layers = 3;
  Memory memory = Memory::Invert;
  at::ScalarType state = at::kInt;
  double dropout = 0.0;
  int64_t channels = kChannels;
  bool defer_checks = false;
};

inline bool is_retrofit(const std::string& scheme) { return scheme.starts_with("retrofit"); }

/// "retrofit-K": K inner iterations, weights of 1/8 with alternating signs.
inline RetrofitOptions retrofit_options(const std::string& scheme, int64_t n_layers) {
  RetrofitOptions options;
  for (int64_t l = 0; l < n_layers; ++l) options.a.push_back(l % 2 == 0 ? 0.125 : -0.125);
  options.inner = scheme.back() - '0';
  return options;
}

inline std::shared_ptr<schemes::Scheme> make_scheme(const std::string& name, int64_t n_layers) {
  if (name == "residual") return std::make_shared<schemes::Residual>();
  if (is_retrofit(name)) {
    const RetrofitOptions options = retrofit_options(name, n_layers);
    std::vector<double> h;
    for (const double a : options.a) h.push_back(options.inner == 0 ? 1 + a : 1);
    return std::make_shared<schemes::MidpointA>(options.a, h);
  }
  if (name == "midpoint") return std::make_shared<schemes::Midpoint>(0.5);
  if (name == "midpoint-copy") {
    return std::make_shared<schemes::Midpoint>(0.5, schemes::Start::Copy);
  }
  if (name == "midpoint-a") {
    return std::make_shared<schemes::MidpointA>(schemes::MidpointA::draw_pairs(n_layers, 3), 0.5);
  }
  if (name == "leapfrog") return std::make_shared<schemes::Leapfrog>(0.5);
  if (name == "hamiltonian") return std::make_shared<schemes::Hamiltonian>();
  if (name == "hamiltonian-a") return std::make_shared<schemes::Hamiltonian>(1.25);
  if (name == "revffn") return std::make_shared<schemes::RevFFN>();
  throw std::invalid_argument(name);
}

inline const std::vector<std::string> kInvertibleSchemes = {
    "midpoint",      "midpoint-copy", "midpoint-a", "leapfrog",   "hamiltonian",
    "hamiltonian-a", "revffn",        "retrofit-0", "retrofit-1", "retrofit-2"};
inline const std::vector<std::string> kSchemes = [] {
  std::vector<std::string> all = kInvertibleSchemes;
  all.insert(all.begin(), "residual");
  return all;
}();

inline std::string test_name(const std::string& scheme) {
  std::string name;
  for (const char c : scheme) {
    if (c != '-') name += c;
  }
  return name;
}

/// RevFFN's first field, half of the block at 0.3 x1 + x2, its last product outside autocast.
inline at::Tensor cross(Block block, const at::Tensor& x1, const at::Tensor& x2) {
  const at::Tensor hidden = torch::tanh(block->in(block->norm(0.3 * x1 + x2)));
  const base::AutocastGuard full_precision({at::kCPU, false, at::kBFloat16});
  const at::Tensor y = block->out(hidden.to(block->out->weight.scalar_type()));
  return 0.5 * torch::dropout(y, block->rate, block->is_training());
}

inline TestStack make_stack(const StackCase& c) {
  torch::manual_seed(17);
  const auto scheme = make_scheme(c.scheme, c.n_layers);
  const int64_t width = c.scheme == "revffn" ? c.channels / 2 : c.channels;
  const auto dtype = c.state == at::kDouble ? at::kDouble : at::kFloat;
  TestStack made;
  std::vector<std::vector<FieldPtr>> layers;
  for (int64_t l = 0; l < c.n_layers; ++l) {
    std::vector<Block>& blocks = made.blocks.emplace_back();
    std::vector<FieldPtr>& fields = layers.emplace_back();
    for (int64_t k = 0; k < scheme->fields_per_layer(); ++k) {
      Block block(width, c.dropout, dtype);
      blocks.push_back(block);
      if (c.scheme == "revffn" && k == 0) {
        fields.push_back(detail::field(
            [block](at::TensorList x) { return cross(block, x[0], x[1]); },
            [block] { return block->parameters(); }, [] { return std::vector<at::Tensor>(); }));
      } else {
        fields.push_back(field(block));
      }
    }
  }
  StackOptions options;
  options.memory = c.memory;
  options.state.dtype = c.state;
  options.defer_checks = c.defer_checks;
  if (is_retrofit(c.scheme)) {
    std::vector<FieldPtr> fields;
    for (const auto& layer : layers) fields.push_back(layer[0]);
    const Retrofit made_of = retrofit(fields, retrofit_options(c.scheme, c.n_layers));
    made.stack = std::make_unique<Stack>(made_of.scheme, made_of.fields, options);
  } else {
    made.stack = std::make_unique<Stack>(scheme, std::move(layers), options);
  }
  return made;
}

/// The scheme's formula written in plain LibTorch, on float states: the oracle of gradients.
inline at::Tensor plain(const TestStack& s, const std::string& scheme, const at::Tensor& x) {
  const auto n = static_cast<int64_t>(s.blocks.size());
  const auto f = [&](int64_t l, const at::Tensor& t, size_t k = 0) {
    return Block(s.blocks[l][k])(t);
  };
  if (scheme == "residual") {
    at::Tensor p = x;
    for (int64_t l = 0; l < n; ++l) p = p + f(l, p);
    return p;
  }
  if (scheme == "hamiltonian" || scheme == "hamiltonian-a") {
    const double a = scheme == "hamiltonian" ? 1.0 : 1.25;
    at::Tensor q = x, p = x;
    for (int64_t l = 0; l < n; ++l) {
      q = a * q + f(l, p);
      p = p / a + f(l, q, 1);
    }
    return p;
  }
  if (scheme == "revffn") {
    const auto halves = x.chunk(2, -1);
    at::Tensor x1 = halves[0], x2 = halves[1];
    for (int64_t l = 0; l < n; ++l) {
      x1 = x1 + cross(s.blocks[l][0], x1, x2);
      x2 = x2 + f(l, x1, 1);
    }
    return torch::cat({x1, x2}, -1);
  }
  if (is_retrofit(scheme)) {
    const RetrofitOptions options = retrofit_options(scheme, n);
    at::Tensor before = x, p = x + f(0, x);
    for (int64_t l = 1; l < n; ++l) {
      const double a = options.a[static_cast<size_t>(l)];
      at::Tensor near = p;
      for (int64_t i = 0; i < options.inner; ++i) near = p - f(l - 1, near);
      const at::Tensor last = options.inner == 0 ? f(l, p) : f(l - 1, near);
      before = std::exchange(p, a * before + (1 - a) * p + f(l, p) + a * last);
    }
    return p;
  }
  const bool copies = scheme == "midpoint-copy";
  at::Tensor q = x, p = copies ? x : x + f(0, x);
  const auto* weighted = dynamic_cast<const schemes::MidpointA*>(&s.stack->scheme());
  for (int64_t l = copies ? 0 : 1; l < n; ++l) {
    at::Tensor next;
    if (scheme == "midpoint" || copies) next = q + 2 * 0.5 * f(l, p);
    if (scheme == "leapfrog") next = 2 * p - q + 0.25 * f(l, p);
    if (scheme == "midpoint-a")
      next = weighted->a(l) * q + (1 - weighted->a(l)) * p + 0.5 * f(l, p);
    q = p;
    p = next;
  }
  return p;
}

/// Autocast to bfloat16 for a scope, as a training program would switch it on.
class Autocast {
 public:
  explicit Autocast(bool on = true) : was_(at::autocast::is_autocast_enabled(at::kCPU)) {
    at::autocast::set_autocast_enabled(at::kCPU, on);
    at::autocast::set_autocast_dtype(at::kCPU, at::kBFloat16);
  }
  ~Autocast() {
    at::autocast::clear_cache();
    at::autocast::set_autocast_enabled(at::kCPU, was_);
  }
  Autocast(const Autocast&) = delete;
  Autocast& operator=(const Autocast&) = delete;

 private:
  bool was_;
};

/// What a step gives: the result, the gradient of the input, and of every parameter.
struct Step {
  at::Tensor y, grad_x;
  std::vector<at::Tensor> grads;
};

/// Forward and backward from the same generator state, under autocast if asked.
inline Step run(TestStack& s, const at::Tensor& x0, bool bfloat16 = false) {
  torch::manual_seed(23);
  const at::Tensor x = x0.detach().clone().requires_grad_();
  for (at::Tensor p : s.parameters()) p.mutable_grad() = at::Tensor();
  Step step;
  {
    const Autocast cast(bfloat16);
    step.y = s.stack->forward(x);
  }
  (step.y * step.y).sum().backward();
  step.grad_x = x.grad();
  for (const at::Tensor& p : s.parameters()) step.grads.push_back(p.grad());
  return step;
}

inline void expect_same_bits(const Step& a, const Step& b) {
  EXPECT_TRUE(at::equal(a.y, b.y));
  EXPECT_TRUE(at::equal(a.grad_x, b.grad_x));
  ASSERT_EQ(a.grads.size(), b.grads.size());
  for (size_t i = 0; i < a.grads.size(); ++i) {
    ASSERT_EQ(a.grads[i].defined(), b.grads[i].defined()) << i;
    if (a.grads[i].defined()) {
      EXPECT_TRUE(at::equal(a.grads[i], b.grads[i])) << i;
    }
  }
}

}  // namespace rev::engine
