// What other reversible trainers were found to do wrong, each a test of its own.
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <gtest/gtest.h>
#include <set>
#include <torch/csrc/autograd/functions/accumulate_grad.h>
#include <torch/torch.h>

#include "engine/stacks.h"
#include "rev/base/error.h"
#include "rev/base/memory_stats.h"
#include "support/throws.h"

namespace rev::engine {
namespace {

using at::Tensor;

Tensor input(uint64_t seed = 5) {
  torch::manual_seed(seed);
  return torch::randn({2, 6, kChannels});
}

Tensor generator_state() { return at::globalContext().defaultGenerator(at::kCPU).get_state(); }

// 1: generator state kept on the module is overwritten by the second forward.
TEST(TrapTest, TwoForwardsBeforeTwoBackwardsReplayEachItsOwnDropout) {
  const auto under = [](Memory memory) {
    TestStack s = make_stack({.memory = memory, .dropout = 0.3});
    const Tensor a = input(1).requires_grad_(), b = input(2).requires_grad_();
    torch::manual_seed(9);
    const Tensor ya = s.stack->forward(a), yb = s.stack->forward(b);
    ya.square().sum().backward();
    yb.square().sum().backward();
    return Step{torch::cat({ya, yb}),
                torch::cat({a.grad(), b.grad()}),
                {s.blocks[0][0]->in->weight.grad(), s.blocks[2][0]->out->weight.grad()}};
  };
  expect_same_bits(under(Memory::Invert), under(Memory::Store));
  expect_same_bits(under(Memory::Checkpoint), under(Memory::Store));
}

// 2: backward reseeds the global generator, so that a user's seed no longer fixes the run.
TEST(TrapTest, TheGlobalGeneratorIsWhereAnOrdinaryRunLeavesIt) {
  const auto after = [](auto&& step) {
    torch::manual_seed(31);
    step();
    return generator_state();
  };
  TestStack s = make_stack({.scheme = "residual", .memory = Memory::Store, .dropout = 0.3});
  const Tensor x = input();
  const Tensor ordinary = after([&] { plain(s, "residual", x).sum().backward(); });
  for (const std::string& scheme :
       {std::string("residual"), std::string("midpoint"), std::string("leapfrog")}) {
    for (const Memory memory : {Memory::Store, Memory::Checkpoint, Memory::Invert}) {
      if (scheme == "residual" && memory == Memory::Invert) continue;
      TestStack t = make_stack({.scheme = scheme, .memory = memory, .dropout = 0.3});
      EXPECT_TRUE(at::equal(after([&] { t.stack->forward(x).sum().backward(); }), ordinary));
      const Tensor y = t.stack->forward(x);
      const Tensor before_backward = generator_state();
      y.sum().backward();
      EXPECT_TRUE(at::equal(generator_state(), before_backward));
    }
  }
}

// 3: backward runs outside the autocast region and evaluates in another precision.
TEST(TrapTest, AutocastIsForwardsWhereverBackwardIsCalled) {
  const auto under = [](Memory memory, bool backward_in_autocast) {
    TestStack s = make_stack({.memory = memory});
    const Tensor x = input().requires_grad_();
    Tensor y;
    {
      const Autocast cast;
      y = s.stack->forward(x);
      if (backward_in_autocast) y.square().sum().backward();
    }
    if (!backward_in_autocast) y.square().sum().backward();
    EXPECT_FALSE(at::autocast::is_autocast_enabled(at::kCPU));
    return Step{y.detach(), x.grad(), {s.blocks[0][0]->in->weight.grad()}};
  };
  const Step stored = under(Memory::Store, false);
  expect_same_bits(under(Memory::Invert, false), stored);
  expect_same_bits(under(Memory::Invert, true), stored);
  expect_same_bits(under(Memory::Checkpoint, false), stored);

  // And forward outside autocast stays so where backward is called inside it, whose products are
  // then those of any graph.
  const auto outside = [](Memory memory) {
    TestStack s = make_stack({.memory = memory});
    const Tensor x = input().requires_grad_();
    const Tensor y = s.stack->forward(x);
    {
      const Autocast cast;
      y.backward(torch::cos(y.detach()));
    }
    EXPECT_EQ(s.stack->take_report().rows_differing, 0);
    Step step{y.detach(), x.grad(), {}};
    for (const Tensor& p : s.parameters()) step.grads.push_back(p.grad());
    return step;
  };
  const Step ordinary = outside(Memory::Store);
  expect_same_bits(outside(Memory::Checkpoint), ordinary);
  expect_same_bits(outside(Memory::Invert), ordinary);
}

// 3, too: weights that were cast while no graph was recorded are cached and lose their gradient.
TEST(TrapTest, TheAutocastCacheDoesNotSwallowGradients) {
  const auto gradient = [](bool after_a_stack) {
    TestStack s = make_stack({});
    const Autocast cast;
    const Tensor w = s.blocks[0][0]->in->weight;
    if (after_a_stack) {
      s.stack->forward(input()).sum().backward();
      EXPECT_TRUE(w.grad().defined());
      w.mutable_grad() = Tensor();
    }
    s.blocks[0][0](input()).sum().backward();  // the same module, ordinarily, in the same region
    return w.grad();
  };
  ASSERT_TRUE(gradient(true).defined());
  EXPECT_TRUE(at::equal(gradient(true), gradient(false)));
}

// 4: gradients that are side effects are not seen by autograd::grad, or vanish where x needs none:
// SchemeTest.ParametersGetThoseOfTheFormulaWhenTheInputNeedsNone and
// SchemeTest.AutogradGradGivesThemAndTouchesNothing.

// 5: a node for the whole stack keeps all gradients back until its end.
TEST(TrapTest, ASinkGetsEachLayersGradientsAsSoonAsTheyAreFinal) {
  TestStack s = make_stack({.n_layers = 4});
  const Step expected = run(s, input());

  std::vector<int64_t> order;
  std::vector<std::vector<Tensor>> taken(4);
  StackOptions options;
  std::vector<FieldPtr> fields;
  for (const auto& layer : s.blocks) fields.push_back(field(layer[0]));
  options.sink = [&](int64_t l, std::vector<Tensor>& grads) {
    order.push_back(l);
    if (l != 2) return;  // layer 2's are taken, the others are left
    taken[2] = grads;
    for (Tensor& g : grads) g = Tensor();
  };
  Stack stack(std::make_shared<schemes::Midpoint>(0.5), fields, options);
  for (Tensor p : s.parameters()) p.mutable_grad() = Tensor();
  stack.forward(input()).square().sum().backward();
  EXPECT_EQ(order, (std::vector<int64_t>{3, 2, 1, 0}));
  const auto parameters = s.parameters();
  const size_t each = parameters.size() / 4;
  for (size_t i = 0; i < parameters.size(); ++i) {
    if (i / each == 2) {
      EXPECT_FALSE(parameters[i].grad().defined());
      EXPECT_TRUE(at::equal(taken[2][i % each], expected.grads[i]));
    } else {
      EXPECT_TRUE(at::equal(parameters[i].grad(), expected.grads[i]));
    }
  }
}

// 5, too: a search of the graph for the parameters that take part, as data parallelism does it,
// must find each.
TEST(TrapTest, AGraphSearchFindsEveryParameter) {
  for (const std::string& scheme : kInvertibleSchemes) {
    TestStack s = make_stack({.scheme = scheme});
    std::set<const at::TensorImpl*> found;
    const Tensor y = s.stack->forward(input());
    std::vector<const torch::autograd::Node*> open = {y.grad_fn().get()};
    while (!open.empty()) {
      const torch::autograd::Node* node = open.back();
      open.pop_back();
      if (const auto* leaf = dynamic_cast<const torch::autograd::AccumulateGrad*>(node)) {
        found.insert(leaf->variable.unsafeGetTensorImpl());
      }
      for (const auto& edge : node->next_edges()) {
        if (edge.is_valid()) open.push_back(edge.function.get());
      }
    }
    std::set<const at::TensorImpl*> expected;
    for (const Tensor& p : s.parameters()) expected.insert(p.unsafeGetTensorImpl());
    EXPECT_EQ(found, expected) << scheme;
  }
}

// 6: inverting and then running forward again evaluates every field twice more instead of once.
TEST(TrapTest, BackwardEvaluatesEachFieldOnceAndFreesItsGraphBeforeTheNext) {
  for (const std::string& scheme : {std::string("midpoint"), std::string("hamiltonian")}) {
    int calls = 0, alive = 0, most_alive = 0;
    struct Counted : torch::autograd::Function<Counted> {
      static Tensor forward(torch::autograd::AutogradContext* ctx, const Tensor& x, const Tensor& w,
                            int* count, int* most) {
        struct Token : torch::CustomClassHolder {
          explicit Token(int* n) : count(n) {}
          ~Token() override { --*count; }
          int* count;
        };
        *most = std::max(*most, ++*count);
        ctx->saved_data["alive"] = c10::IValue::make_capsule(c10::make_intrusive<Token>(count));
        return x * w;
      }
      static torch::autograd::variable_list backward(torch::autograd::AutogradContext*,
                                                     torch::autograd::variable_list g) {
        return {g[0], g[0].sum().reshape({1}), Tensor(), Tensor()};
      }
    };
    const Tensor w = torch::full({1}, 0.1).requires_grad_();
    const FieldPtr f = field(
        [&](const Tensor& x) {
          ++calls;
          return Counted::apply(x, w, &alive, &most_alive);
        },
        {w});
    const int64_t n_layers = 5;
    const auto made = make_scheme(scheme, n_layers);
    const auto per_layer = static_cast<size_t>(made->fields_per_layer());
    Stack stack(made,
                std::vector<std::vector<FieldPtr>>(n_layers, std::vector<FieldPtr>(per_layer, f)));
    const Tensor y = stack.forward(input());
    EXPECT_EQ(calls, n_layers * static_cast<int>(per_layer));
    EXPECT_EQ(alive, 0);
    most_alive = 0;
    y.sum().backward();
    EXPECT_EQ(calls, 2 * n_layers * static_cast<int>(per_layer));
    EXPECT_EQ(most_alive, static_cast<int>(per_layer));  // one layer's graph at a time
    EXPECT_EQ(alive, 0);
  }
}

// 7: a two-buffer scheme that forgets a layer at odd depth. Gradients at depths 1, 2, 3, 7, 12 are
// SchemeTest.GradientsAreThoseOfTheFormulaAtAnyDepth; here every layer's weight must matter.
TEST(TrapTest, EveryLayerGetsAGradientAtOddAndEvenDepth) {
  for (const std::string& scheme : kInvertibleSchemes) {
    for (const int64_t depth : {1, 2, 3, 4, 5}) {
      TestStack s = make_stack({.scheme = scheme, .n_layers = depth});
      const Step step = run(s, input());
      for (const Tensor& g : step.grads)
        EXPECT_GT(g.abs().max().item<float>(), 0) << scheme << depth;
    }
  }
}

// 8: work on another stream that is not waited for.
TEST(TrapTest, AnotherStreamGivesTheSameBits_CUDA) {
  if (!torch::cuda::is_available()) GTEST_SKIP() << "no CUDA device";
  const auto on = [](bool side_stream) {
    TestStack s = make_stack({});
    for (const auto& layer : s.blocks) Block(layer[0])->to(at::kCUDA);
    const c10::Stream stream = side_stream
                                   ? c10::impl::VirtualGuardImpl(c10::DeviceType::CUDA)
                                         .getNewStream(c10::Device(c10::DeviceType::CUDA, 0))
                                   : c10::impl::VirtualGuardImpl(c10::DeviceType::CUDA)
                                         .getStream(c10::Device(c10::DeviceType::CUDA, 0));
    const Tensor x = input().to(at::kCUDA);
    torch::cuda::synchronize();
    const c10::StreamGuard guard(stream);
    Step step = run(s, x);
    torch::cuda::synchronize();
    return step;
  };
  expect_same_bits(on(true), on(false));
}

// 9: freeing the input's memory destroys what another node saved.
TEST(TrapTest, TheInputStaysWhatOthersSaved) {
  const auto gradient = [](Memory memory) {
    TestStack s = make_stack({.memory = memory});
    const Tensor leaf = input().requires_grad_();
    const Tensor x = torch::relu(leaf);
    const Tensor copy = x.detach().clone();
    Tensor y = s.stack->forward(x);
    y = y + x * x;  // x is used again
    y = torch::exp(y.clamp_max(2));
    y.sum().backward();
    EXPECT_TRUE(at::equal(x, copy));
    return leaf.grad();
  };
  EXPECT_TRUE(at::equal(gradient(Memory::Invert), gradient(Memory::Store)));
}

TEST(TrapTest, TheResultMayBeChangedInPlace) {
  for (const at::ScalarType state : {at::kInt, at::kFloat, at::kDouble}) {
    TestStack s = make_stack({.state = state});
    const Tensor x = input().to(state == at::kDouble ? at::kDouble : at::kFloat);
    const auto gradient = [&](bool in_place) {
      const Tensor leaf = x.clone().requires_grad_();
      Tensor y = s.stack->forward(leaf);
      if (in_place) {
        y.mul_(3);
        y.detach().zero_();
      } else {
        y = y * 3;
      }
      return torch::autograd::grad({y.sum()}, {leaf})[0];
    };
    EXPECT_TRUE(at::equal(gradient(true), gradient(false)));
  }
}

// 10: an optimizer inside backward changes a weight before every layer that reads it is done.
TEST(TrapTest, ASinkSeesTiedWeightsOnlyAfterTheirLastUse) {
  Block shared(kChannels, 0.0, at::kFloat), own(kChannels, 0.0, at::kFloat);
  const auto step = [&](bool with_sink) {
    torch::manual_seed(1);
    const std::vector<FieldPtr> fields = {field(own), field(shared), field(own), field(shared)};
    std::vector<std::vector<Tensor>> parameters;
    StackOptions options;
    Stack* self = nullptr;
    if (with_sink) {
      options.sink = [&](int64_t l, std::vector<Tensor>& grads) {
        const auto layer = self->layer_parameters(l);
        const torch::NoGradGuard no_grad;
        for (size_t i = 0; i < grads.size(); ++i) {
          if (!grads[i].defined()) continue;
          layer[i].sub_(0.1 * grads[i]);
          grads[i] = Tensor();
        }
      };
    }
    Stack stack(std::make_shared<schemes::Midpoint>(0.5), fields, options);
    self = &stack;
    stack.forward(input()).square().sum().backward();
    std::vector<Tensor> after;
    for (const Block& block : {own, shared}) {
      for (Tensor p : block->parameters()) {
        if (!with_sink) {
          const torch::NoGradGuard no_grad;
          after.push_back(p - 0.1 * p.grad());
          p.mutable_grad() = Tensor();
        } else {
          after.push_back(p.detach().clone());
        }
      }
    }
    return after;
  };
  const auto at_the_end = step(false), inside = step(true);
  for (size_t i = 0; i < inside.size(); ++i) EXPECT_TRUE(at::equal(inside[i], at_the_end[i])) << i;
}

// 11: running statistics and load counters move twice, once in forward and once when it is
// repeated.
TEST(TrapTest, RunningStatisticsMoveOncePerStep) {
  for (const Memory memory : {Memory::Store, Memory::Checkpoint, Memory::Invert}) {
    torch::nn::BatchNorm1d norm(torch::nn::BatchNorm1dOptions(6));
    const std::vector<FieldPtr> fields = {field(norm), field(norm)};
    StackOptions options;
    options.memory = memory;
    Stack stack(std::make_shared<schemes::Midpoint>(0.5), fields, options);
    stack.forward(input()).sum().backward();
    EXPECT_EQ(norm->num_batches_tracked.item<int64_t>(), 2);  // two layers, once each
    torch::nn::BatchNorm1d ordinary(torch::nn::BatchNorm1dOptions(6));
    const Tensor x = kernels::decode(kernels::encode(input(), at::kInt, 16), 16);
    ordinary->forward(x + ordinary->forward(x));
    // The second layer reads values that are rounded by 2^-17, of which the mean moves by a tenth
    // (the momentum), and the variance by a tenth of twice the largest deviation, 8.
    EXPECT_FALSE(at::allclose(norm->running_mean, torch::zeros({6}), 0, 1e-3));
    EXPECT_TRUE(at::allclose(norm->running_mean, ordinary->running_mean, 0, 0.1 * 0x1p-17 + 1e-7));
    EXPECT_TRUE(at::allclose(norm->running_var, ordinary->running_var, 0, 1.6 * 0x1p-17 + 1e-6));
  }
}

// 12: memory that is flat in forward and grows in backward; measured at the allocator.
TEST(TrapTest, PeakMemoryThroughBackwardDoesNotGrowWithDepth) {
  base::count_memory();
  const auto peak = [](int64_t depth, Memory memory) {
    // No parameters: what is measured is states, graphs and what exactness keeps.
    const FieldPtr f = field([](const Tensor& x) { return torch::tanh(x * 0.5) * 0.1; }, {});
    StackOptions options;
    options.memory = memory;
    Stack stack(std::make_shared<schemes::Midpoint>(0.5),
                std::vector<FieldPtr>(static_cast<size_t>(depth), f), options);
    const Tensor x = torch::randn({8, 64, 256}).requires_grad_();
    const int64_t before = base::memory_stats().live_bytes;
    base::reset_peak_memory();
    stack.forward(x).sum().backward();
    return base::memory_stats().peak_bytes - before - stack.take_report().witness_bytes;
  };
  const auto shallow = static_cast<double>(peak(4, Memory::Invert));
  for (const int64_t depth : {16, 64, 256}) {
    EXPECT_NEAR(static_cast<double>(peak(depth, Memory::Invert)) / shallow, 1.0, 0.02) << depth;
  }
  // Stored graphs grow in proportion: 60 layers more hold 60 times what one holds.
  const auto stored = [&](int64_t depth) {
    return static_cast<double>(peak(depth, Memory::Store));
  };
  const double a = stored(4), b = stored(64), c = stored(124);
  EXPECT_NEAR((c - b) / (b - a), 1.0, 0.02);
  EXPECT_GT(b, 5 * shallow);
}

// 12, too: with weights, whose bytes and whose gradients' are not the stack's to save.
TEST(TrapTest, PeakMemoryAboveWeightsAndGradientsIsFlatUnderEveryScheme) {
  base::count_memory();
  constexpr int64_t kWidth = 512;
  for (const std::string& scheme : kInvertibleSchemes) {
    if (scheme == "hamiltonian-a") continue;  // a stream of 1.25^256
    if (scheme == "midpoint-copy") continue;  // midpoint but for its first layer
    if (is_retrofit(scheme) && scheme != "retrofit-0") continue;  // it, but for the fields
    const auto peak = [&](int64_t depth, Memory memory = Memory::Invert) {
      const auto made = make_scheme(scheme, depth);
      const int64_t width = scheme == "revffn" ? kWidth / 2 : kWidth;
      std::vector<std::vector<FieldPtr>> layers(static_cast<size_t>(depth));
      for (auto& fields : layers) {
        for (int64_t k = 0; k < made->fields_per_layer(); ++k) {
          Tensor w = (0.1 / std::sqrt(width) * torch::randn({width, width})).requires_grad_();
          w.mutable_grad() = torch::zeros_like(w);
          fields.push_back(
              scheme == "revffn" && k == 0
                  ? cross_field(
                        [w](const Tensor& x, const Tensor& y) {
                          return torch::tanh((0.3 * x + y).matmul(w));
                        },
                        {w})
                  : field([w](const Tensor& x) { return torch::tanh(x.matmul(w)); }, {w}));
        }
      }
      // Gradients are added up as they become final, so that none is held twice.
      const Sink add_up = [&](int64_t l, std::vector<Tensor>& grads) {
        for (size_t k = 0; k < grads.size(); ++k) {
          layers[static_cast<size_t>(l)][k]->parameters()[0].mutable_grad().add_(grads[k]);
          grads[k] = Tensor();
        }
      };
      Stack stack(made, layers, {.memory = memory, .state = {}, .sink = add_up});
      const Tensor x = torch::randn({2, 64, kWidth}).requires_grad_();
      const int64_t before = base::memory_stats().live_bytes;
      base::reset_peak_memory();
      stack.forward(x).sum().backward();
      return base::memory_stats().peak_bytes - before - stack.take_report().witness_bytes;
    };
    const auto shallow = static_cast<double>(peak(4));
    for (const int64_t depth : {16, 64, 256}) {
      EXPECT_NEAR(static_cast<double>(peak(depth)) / shallow, 1.0, 0.02) << scheme << " " << depth;
    }
    // Stored graphs grow in proportion: each 30 layers more hold as much.
    const auto stored = [&](int64_t depth) {
      return static_cast<double>(peak(depth, Memory::Store));
    };
    const double a = stored(4), b = stored(34), c = stored(64);
    EXPECT_NEAR((c - b) / (b - a), 1.0, 0.02) << scheme;
    EXPECT_GT(b, 2 * shallow) << scheme;
  }
}

// 13: a comparison with checkpointing at unequal batch, or with whole logits in one arm only. At
// equal batch the arms must order as they should, and at equal memory inverting must take the
// larger batch. (That logits are whole in no arm: Gpt2Test.LogitsAreNeverWholeUnderAnyPolicy.)
TEST(TrapTest, AtEqualBatchInvertingPeaksLowestAndAtEqualMemoryItTakesTheLargestBatch) {
  base::count_memory();
  const auto peak = [](Memory memory, int64_t batch) {
    TestStack s = make_stack({.n_layers = 24, .memory = memory, .channels = 64});
    const Tensor x = torch::randn({batch, 64, 64}).requires_grad_();  // outweighs the gradients
    for (const Tensor& p : s.parameters()) p.mutable_grad() = torch::zeros_like(p);
    const int64_t before = base::memory_stats().live_bytes;
    base::reset_peak_memory();
    s.stack->forward(x).sum().backward();
    return base::memory_stats().peak_bytes - before;
  };
  const int64_t stored = peak(Memory::Store, 16), checkpointed = peak(Memory::Checkpoint, 16);
  EXPECT_LT(peak(Memory::Invert, 16), checkpointed);
  EXPECT_LT(checkpointed, stored);
  EXPECT_LT(peak(Memory::Invert, 32),
            checkpointed);  // what checkpointing 16 takes is enough for 32
}

// 14: |a| < 1 multiplies errors of the inverse by 1/|a| a layer: exact on the grid, refused where
// the lost digits do not fit, and said where states are floats.
TEST(TrapTest, WeightsBelowOneAreExactOrRefused) {
  Block block(kChannels, 0.0, at::kFloat);
  const auto run_with = [&](double a, int64_t depth, at::ScalarType state) {
    StackOptions options;
    options.state.dtype = state;
    const auto scheme = std::make_shared<schemes::MidpointA>(
        std::vector<double>(static_cast<size_t>(depth), a), 0.5);
    Stack stack(scheme, std::vector<FieldPtr>(static_cast<size_t>(depth), field(block)), options);
    stack.forward(input()).sum().backward();
    return stack.take_report();
  };
  EXPECT_EQ(run_with(0.5, 70, at::kInt).rows_differing, 0);
  EXPECT_EQ(run_with(0.625, 20, at::kInt).rows_differing, 0);
  EXPECT_GT(run_with(0.5, 60, at::kFloat).rows_differing, 0);
  EXPECT_THROW_WITH(run_with(129.0 / 256, 70, at::kInt), "need more than 64 bits");
}

}  // namespace
}  // namespace rev::engine
