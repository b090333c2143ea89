// Every operator of this room through its CUDA kernels and on the CPU path, by bits. On a GPU the
// kernels are queued on a stream that is not the default one.
#include "kernels/two_devices.h"

#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <cstring>
#include <gtest/gtest.h>
#include <map>
#include <string>
#include <torch/torch.h>

#include "rev/kernels/activation.h"
#include "rev/kernels/adamw.h"
#include "rev/kernels/cross_entropy.h"
#include "rev/kernels/dropout.h"
#include "rev/kernels/embedding.h"
#include "rev/kernels/fixed_point.h"
#include "rev/kernels/global_norm.h"
#include "rev/kernels/grid.h"
#include "rev/kernels/kl.h"
#include "rev/kernels/low_bits.h"
#include "rev/kernels/moe.h"
#include "rev/kernels/norm.h"
#include "rev/kernels/reconstruction.h"

namespace rev::kernels {
namespace {

using at::Tensor;

constexpr int64_t kBits = 16;
constexpr int64_t kRows = 37, kWidth = 72, kVocabulary = 300;  // neither fills its blocks
constexpr double kA = 0.375;

// Inputs of one seed, on a device.
struct Inputs {
  explicit Inputs(c10::Device device) : to(device) { torch::manual_seed(11); }

  Tensor normal(at::IntArrayRef sizes, at::ScalarType dtype = at::kFloat) const {
    return torch::randn(sizes).to(dtype).to(to);
  }
  Tensor field(at::ScalarType dtype = at::kBFloat16) const {
    return normal({kRows, kWidth}, dtype);
  }
  Tensor integers(int64_t low, int64_t high, at::IntArrayRef sizes, at::ScalarType dtype) const {
    return torch::randint(low, high, sizes, torch::kLong).to(dtype).to(to);
  }
  Tensor state() const { return integers(-(1 << 20), 1 << 20, {kRows, kWidth}, at::kInt); }
  Tensor number(float value) const { return torch::full({}, value).to(to); }
  Probe probe() const {
    const auto sums = at::TensorOptions(at::kLong).device(to);
    return {torch::zeros({kRows}, sums), torch::zeros({kRows}, sums),
            torch::zeros({1}, sums.dtype(at::kInt))};
  }

  c10::Device to;
};

std::vector<Tensor> with(std::vector<Tensor> tensors, const Probe& probe) {
  tensors.insert(tensors.end(), {probe.before, probe.after, probe.saturated});
  return tensors;
}

std::vector<Tensor> defined(const std::vector<Tensor>& tensors) {
  std::vector<Tensor> some;
  for (const Tensor& t : tensors) {
    if (t.defined()) some.push_back(t);
  }
  return some;
}

// `change(in, y, probe)` of a state.
template <class Change>
OnDevice state_op(const Change& change) {
  return [=](c10::Device device) {
    const Inputs in(device);
    Tensor y = in.state();
    const Probe probe = in.probe();
    change(in, y, probe);
    return with({y}, probe);
  };
}

std::vector<Tensor> all_of(const NormedState& made, const Tensor& y) {
  return defined({y, made.value, made.norm.y, made.norm.mean, made.norm.rstd});
}

StateNorm state_norm(const Inputs& in, NormKind kind) {
  StateNorm norm;
  norm.kind = kind;
  norm.weight = in.normal({kWidth});
  if (kind == NormKind::Layer) norm.bias = in.normal({kWidth});
  norm.dtype = at::kBFloat16;
  norm.value = at::kFloat;
  return norm;
}

std::map<std::string, OnDevice> grid_operators() {
  const auto scaled = [](at::ScalarType digits, bool back) {
    return state_op([=](const Inputs& in, Tensor& y, const Probe& probe) {
      Tensor d = in.integers(0, 1000, {kRows, kWidth}, digits);
      const Ratio a{300, 256, true};
      scale_(y, d, a, back ? Probe{} : probe);
      if (back) unscale_(y, d, a, probe);
    });
  };
  const auto shifted = [](bool back) {
    return state_op([=](const Inputs&, Tensor& y, const Probe& probe) {
      const Tensor planes = bit_planes(y, 3);
      shift_down_(y, planes, {3, true}, back ? Probe{} : probe);
      if (back) shift_up_(y, planes, {3, true}, probe);
    });
  };
  return {
      {"encode",
       [](c10::Device device) {
         const Inputs in(device);
         const Probe probe{{}, in.probe().after, in.probe().saturated};
         const Tensor y = encode(in.field(at::kFloat), at::kInt, kBits, probe);
         return std::vector<Tensor>{y, probe.after, probe.saturated, decode(y, kBits)};
       }},
      {"update", state_op([](const Inputs& in, Tensor& y, const Probe& probe) {
         update_(y, in.field(), 0.7, kBits, probe);
         update_(y, in.field(at::kFloat), -0.7, kBits, probe);
       })},
      {"reflect", state_op([](const Inputs& in, Tensor& y, const Probe& probe) {
         reflect_(y, in.state(), in.field(), 0.7, kBits, probe);
       })},
      {"blend", state_op([](const Inputs& in, Tensor& y, const Probe& probe) {
         blend_(y, in.state(), kA, in.field(), 0.7, kBits, probe);
       })},
      {"scale", scaled(at::kInt, false)},
      {"scale, 64 bits", scaled(at::kLong, false)},
      {"unscale", scaled(at::kInt, true)},
      {"unscale, 64 bits", scaled(at::kLong, true)},
      {"shift_down", shifted(false)},
      {"shift_up", shifted(true)},
      {"update_norm",
       [](c10::Device device) {
         const Inputs in(device);
         Tensor y = in.state();
         return all_of(
             update_norm_(y, in.field(), 0.7, kBits, state_norm(in, NormKind::Layer), in.probe()),
             y);
       }},
      {"reflect_norm",
       [](c10::Device device) {
         const Inputs in(device);
         Tensor y = in.state();
         return all_of(reflect_norm_(y, in.state(), in.field(), 0.7, kBits,
                                     state_norm(in, NormKind::Rms), in.probe()),
                       y);
       }},
      {"blend_norm",
       [](c10::Device device) {
         const Inputs in(device);
         Tensor y = in.state();
         return all_of(blend_norm_(y, in.state(), kA, in.field(), 0.7, kBits,
                                   state_norm(in, NormKind::Layer), in.probe()),
                       y);
       }},
      {"compare_rows",
       [](c10::Device device) {
         const Inputs in(device);
         const Tensor y = in.state(), z = y.clone();
         z.narrow(0, 5, 20).add_(1);
         return std::vector<Tensor>{row_sums(y), compare_rows(row_sums(y), row_sums(z))};
       }},
      {"drift",
       [](c10::Device device) {
         const Inputs in(device);
         return std::vector<Tensor>{drift(in.field(at::kFloat), in.field(at::kFloat))};
       }},
      {"low bits",
       [](c10::Device device) {
         const Inputs in(device);
         const Tensor y = in.state(), packed = pack_low_bits(y, 2);
         const Tensor sums = in.probe().after;
         return std::vector<Tensor>{packed, select_by_low_bits(y + 1, packed, 2, sums), sums};
       }},
      {"fixed point",
       [](c10::Device device) {
         const Inputs in(device);
         Tensor x = in.state();
         const Tensor index = in.integers(0, 1, {kRows}, at::kLong) +
                              torch::arange(kRows, at::TensorOptions(at::kLong).device(device));
         const Tensor values = gather_values(x, index, kBits);
         const Stepped stepped =
             iterate_(x, in.state(), in.field(at::kFloat), kBits, {index, {}}, {1 << 18, 16});
         const Tensor y = in.state(), packed = pack_low_bits(y, 2), expected = row_sums(y);
         Tensor near = y + 1, sums = row_sums(near);
         correct_(near, y, in.field(at::kFloat), kBits, packed, 2, expected, sums);
         return std::vector<Tensor>{values, x, stepped.left.index, stepped.left.moved, near, sums};
       }},
  };
}

std::map<std::string, OnDevice> layer_operators() {
  return {
      {"layer_norm",
       [](c10::Device device) {
         const Inputs in(device);
         const Tensor x = in.field(), w = in.normal({kWidth});
         const Normed n = layer_norm(x, w, in.normal({kWidth}), 1e-5, at::kFloat);
         const NormGradients g = layer_norm_backward(in.field(), x, w, n.mean, n.rstd);
         return std::vector<Tensor>{n.y, n.mean, n.rstd, g.x, g.weight, g.bias};
       }},
      {"rms_norm",
       [](c10::Device device) {
         const Inputs in(device);
         const Tensor x = in.field(at::kFloat), w = in.normal({kWidth});
         const Normed n = rms_norm(x, w, 1e-5, at::kBFloat16);
         const NormGradients g =
             rms_norm_backward(in.field(), x, w, n.rstd, {true, true, false, {}});
         return std::vector<Tensor>{n.y, n.rstd, g.x, g.weight};
       }},
      {"bias_gelu",
       [](c10::Device device) {
         const Inputs in(device);
         const Tensor x = in.field(), b = in.normal({kWidth});
         const GeluGradients g = bias_gelu_backward(in.field(), x, b, {true, true, false});
         return std::vector<Tensor>{bias_gelu(x, b), g.x, g.bias, g.value};
       }},
      {"swiglu",
       [](c10::Device device) {
         const Inputs in(device);
         const auto halves = in.normal({kRows, 2 * kWidth}, at::kBFloat16).chunk(2, 1);
         const Tensor b = in.normal({kWidth});
         const SwigluGradients g =
             swiglu_backward(in.field(), halves[0], halves[1], b, {}, {true, true, false});
         return std::vector<Tensor>{swiglu(halves[0], halves[1], b), g.both, g.gate_bias, g.value};
       }},
      {"dropout",
       [](c10::Device device) {
         const Inputs in(device);
         return std::vector<Tensor>{philox_dropout(in.field(), 0.3, {5, 8}),
                                    philox_mask({kRows, 3}, 0.3, {5, 8}, device)};
       }},
      {"embedding_backward",
       [](c10::Device device) {
         const Inputs in(device);
         return std::vector<Tensor>{
             embedding_backward(in.field(), in.integers(0, 7, {kRows}, at::kLong), 9, at::kFloat)};
       }},
      {"mixture of experts",
       [](c10::Device device) {
         const Inputs in(device);
         const Tensor scores = in.normal({kRows, 8}), x = in.field();
         const Routing r = route(scores, 3, true);
         const Tensor rows = dispatch(x, r), y = combine(rows, r);
         const auto [drows, dweights] = combine_backward(in.field(), rows, r);
         return std::vector<Tensor>{r.experts,
                                    r.weights,
                                    r.offsets,
                                    r.order,
                                    r.rows,
                                    rows,
                                    y,
                                    drows,
                                    dweights,
                                    dispatch_backward(drows, r),
                                    route_backward(dweights, scores, r, true),
                                    route_to(r.experts, scores, false).weights};
       }},
  };
}

std::map<std::string, OnDevice> training_operators() {
  const auto with_adamw = [](at::ScalarType dtype, bool coded) {
    return [=](c10::Device device) {
      const Inputs in(device);
      const int64_t n = 1000, blocks = (n + kMomentBlock - 1) / kMomentBlock;
      const auto floats = at::TensorOptions(at::kFloat).device(device);
      AdamWTensor t;
      t.weight = in.normal({n}, dtype);
      t.grad = in.normal({n}, dtype);
      const auto moments = floats.dtype(coded ? at::kByte : at::kFloat);
      t.exp_avg = torch::zeros({n}, moments);
      t.exp_avg_sq = torch::zeros({n}, moments);
      if (coded) {
        t.exp_avg_scale = torch::zeros({blocks}, floats);
        t.exp_avg_sq_scale = torch::zeros({blocks}, floats);
      }
      t.step = torch::zeros({}, floats);
      if (dtype == at::kBFloat16) t.master = t.weight.to(at::kFloat);
      t.weight_decay = 0.1;
      AdamWStep step;
      step.lr = in.number(1e-2f);
      step.clip = in.number(0.5f);
      for (int i = 0; i < 3; ++i) adamw_({t}, step);
      return defined({t.weight, t.exp_avg, t.exp_avg_sq, t.exp_avg_scale, t.exp_avg_sq_scale,
                      t.step, t.master});
    };
  };
  const auto with_kl = [](Divergence direction) {
    return [=](c10::Device device) {
      const Inputs in(device);
      const Tensor teacher = in.normal({kRows, kVocabulary}, at::kBFloat16);
      Tensor student = in.normal({kRows, kVocabulary}, at::kBFloat16);
      const KlOptions options{direction, 2, {}};
      const Tensor value = kl(teacher, student, options);
      return std::vector<Tensor>{value, kl_(teacher, student, options, 0.25), student};
    };
  };
  return {
      {"cross_entropy",
       [](c10::Device device) {
         const Inputs in(device);
         Tensor logits = in.normal({kRows, kVocabulary});
         const Tensor targets = in.integers(0, kVocabulary, {kRows}, at::kLong);
         targets[3] = kIgnoreIndex;
         const Tensor lse = in.normal({kRows});
         const Tensor loss = cross_entropy(logits, targets, 1e-3, lse);
         return std::vector<Tensor>{loss, lse, cross_entropy_(logits, targets, 0.25, 1e-3), logits};
       }},
      {"kl", with_kl(Divergence::Forward)},
      {"kl, reverse", with_kl(Divergence::Reverse)},
      {"adamw", with_adamw(at::kFloat, false)},
      {"adamw, 8 bits", with_adamw(at::kFloat, true)},
      {"adamw, master weights", with_adamw(at::kBFloat16, false)},
      {"global_norm",
       [](c10::Device device) {
         const Inputs in(device);
         const Tensor flag = torch::zeros({1}, at::TensorOptions(at::kInt).device(device));
         const GlobalNorm g = global_norm({in.field(), in.normal({40000})}, 1.5, flag);
         return std::vector<Tensor>{g.norm, g.factor, flag};
       }},
  };
}

bool same_bits(const Tensor& a, const Tensor& b) {
  const Tensor x = a.contiguous(), y = b.contiguous();
  return x.scalar_type() == y.scalar_type() && x.sizes() == y.sizes() &&
         std::memcmp(x.const_data_ptr(), y.const_data_ptr(), x.nbytes()) == 0;
}

// On the first GPU, on a stream of its own.
std::vector<Tensor> by_gpu(const OnDevice& run) {
  const c10::Device device(c10::kCUDA, 0);
  const c10::StreamGuard guard(c10::impl::VirtualGuardImpl(c10::kCUDA).getNewStream(device));
  std::vector<Tensor> results;
  for (const Tensor& t : run(device)) results.push_back(t.cpu());
  return results;
}

void expect_the_same_bits(const std::map<std::string, OnDevice>& operators) {
  const bool emulated = emulated_kernels.by_kernels != nullptr;
  if (!emulated && !torch::cuda::is_available()) GTEST_SKIP() << "no CUDA device";
  for (const auto& [name, run] : operators) {
    const auto by_cpu = emulated ? emulated_kernels.by_cpu(run) : run(c10::kCPU);
    const auto by_kernels = emulated ? emulated_kernels.by_kernels(run) : by_gpu(run);
    ASSERT_EQ(by_cpu.size(), by_kernels.size());
    for (size_t i = 0; i < by_cpu.size(); ++i) {
      EXPECT_TRUE(same_bits(by_cpu[i], by_kernels[i])) << name << ", result " << i;
    }
  }
}

TEST(TwoDevicesTest, StatesHaveTheSameBits_CUDA) { expect_the_same_bits(grid_operators()); }

TEST(TwoDevicesTest, LayersHaveTheSameBits_CUDA) { expect_the_same_bits(layer_operators()); }

TEST(TwoDevicesTest, LossesAndOptimizersHaveTheSameBits_CUDA) {
  expect_the_same_bits(training_operators());
}

}  // namespace
}  // namespace rev::kernels
