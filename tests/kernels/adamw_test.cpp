#include "rev/kernels/adamw.h"

#include <ATen/Parallel.h>
#include <cmath>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "cuda/adamw_math.h"
#include "support/throws.h"

namespace rev::kernels {
namespace {

using at::Tensor;

const double kUnit = std::pow(2.0, -24);  // what one float32 operation may round by, relatively

Tensor number(double value) { return torch::full({}, value, at::kFloat); }

AdamWTensor random_tensor(at::IntArrayRef shape, at::ScalarType weights = at::kFloat,
                          at::ScalarType moments = at::kFloat) {
  AdamWTensor t;
  t.weight = torch::randn(shape).to(weights);
  t.grad = torch::randn(shape).to(weights);
  t.step = number(0);
  t.weight_decay = 0.1;
  t.exp_avg = torch::zeros(shape, moments);
  t.exp_avg_sq = torch::zeros(shape, moments);
  if (moments == at::kByte) {
    t.exp_avg_scale = torch::zeros({(t.weight.numel() + 255) / 256});
    t.exp_avg_sq_scale = torch::zeros({(t.weight.numel() + 255) / 256});
  }
  return t;
}

AdamWTensor copy_of(const AdamWTensor& t) {
  AdamWTensor copy = t;
  for (Tensor* x : {&copy.weight, &copy.exp_avg, &copy.exp_avg_sq, &copy.exp_avg_scale,
                    &copy.exp_avg_sq_scale, &copy.step, &copy.master}) {
    if (x->defined()) *x = x->clone();
  }
  return copy;
}

bool same(const AdamWTensor& a, const AdamWTensor& b) {
  const auto equal = [](const Tensor& x, const Tensor& y) {
    return x.defined() ? at::equal(x, y) : !y.defined();
  };
  return equal(a.weight, b.weight) && equal(a.exp_avg, b.exp_avg) &&
         equal(a.exp_avg_sq, b.exp_avg_sq) && equal(a.exp_avg_scale, b.exp_avg_scale) &&
         equal(a.exp_avg_sq_scale, b.exp_avg_sq_scale) && equal(a.step, b.step) &&
         equal(a.master, b.master);
}

AdamWStep step_of(double lr) {
  AdamWStep step;
  step.lr = number(lr);
  return step;
}

// The formula in float64.
struct Exact {
  Tensor w, m, v;
  int64_t t = 0;

  explicit Exact(const Tensor& weight)
      : w(weight.to(at::kDouble)), m(at::zeros_like(w)), v(at::zeros_like(w)) {}

  void step(const Tensor& grad, double lr, double decay, double clip = 1) {
    ++t;
    const Tensor g = grad.to(at::kDouble) * clip;
    m = 0.9 * m + 0.1 * g;
    v = 0.95 * v + 0.05 * g * g;
    const Tensor move =
        (m / (1 - std::pow(0.9, t))) / ((v / (1 - std::pow(0.95, t))).sqrt() + 1e-8);
    w = w - lr * (decay * w + move);
  }
};

// Of 10 steps with lr 0.01: each rounds w, at most 8 here, once to half a unit, and adds a move of
// at most 0.01 * 3 with no more than 60 roundings in it (25 of them in the corrections for t up to
// 15, four bits with six each, and one more), half of them in a square under a root.
const double kTenSteps = 10 * (8 * 0.5 + 0.03 * 60) * kUnit;

TEST(AdamWKernelTest, TakesTheStepsOfTheFormulaInFloat64) {
  torch::manual_seed(71);
  const std::vector<std::vector<int64_t>> shapes = {{0}, {1}, {31}, {33, 17}, {257}, {40000}};
  std::vector<AdamWTensor> tensors;
  std::vector<Exact> exact;
  for (const auto& shape : shapes) {
    tensors.push_back(random_tensor(shape));
    exact.emplace_back(tensors.back().weight);
  }
  AdamWStep step = step_of(0.01);
  step.clip = number(0.5);
  for (int k = 0; k < 10; ++k) {
    for (size_t i = 0; i < tensors.size(); ++i) {
      tensors[i].grad = torch::randn(shapes[i]).to(k % 2 == 0 ? at::kFloat : at::kBFloat16);
      exact[i].step(tensors[i].grad, 0.01, 0.1, 0.5);
    }
    adamw_(tensors, step);
  }
  for (size_t i = 0; i < tensors.size(); ++i) {
    const AdamWTensor& t = tensors[i];
    EXPECT_EQ(t.step.item<float>(), 10);
    EXPECT_TRUE(at::allclose(t.weight.to(at::kDouble), exact[i].w, 0, kTenSteps)) << i;
    // Sums of at most 10 terms below 3, each rounded a few times: 10 * 3 * 3 units.
    EXPECT_TRUE(at::allclose(t.exp_avg.to(at::kDouble), exact[i].m, 0, 90 * kUnit)) << i;
    // Of squares below 9.
    EXPECT_TRUE(at::allclose(t.exp_avg_sq.to(at::kDouble), exact[i].v, 0, 270 * kUnit)) << i;
  }
}

TEST(AdamWKernelTest, AgreesWithTorchsFusedAdamW) {
  torch::manual_seed(72);
  AdamWTensor ours = random_tensor({300, 70});
  AdamWTensor theirs = copy_of(ours);
  for (int k = 0; k < 10; ++k) {
    ours.grad = torch::randn({300, 70});
    adamw_({ours}, step_of(0.01));
    theirs.step.add_(1);
    std::vector<Tensor> w{theirs.weight}, m{theirs.exp_avg}, v{theirs.exp_avg_sq}, g{ours.grad};
    at::_fused_adamw_(w, g, m, v, {}, {theirs.step}, 0.01, 0.9, 0.95, 0.1, 1e-8, false, false);
  }
  // Both within the bound of the formula; theirs rounds w twice a step, once for its decay.
  EXPECT_TRUE(at::allclose(ours.weight, theirs.weight, 0, 3 * kTenSteps));
  EXPECT_TRUE(at::allclose(ours.exp_avg, theirs.exp_avg, 0, 2 * 90 * kUnit));
  EXPECT_TRUE(at::allclose(ours.exp_avg_sq, theirs.exp_avg_sq, 0, 2 * 270 * kUnit));
}

TEST(AdamWKernelTest, BiasCorrectionsAreRightForEveryCountOfSteps) {
  for (const double beta : {0.0, 0.9, 0.95, 0.999, 0.99999}) {
    for (double t = 1; t <= 16777216; t = std::floor(t * 1.37) + 1) {
      const double exact = beta == 0 ? 1 : -std::expm1(t * std::log(beta));
      const float got = cuda::bias_correction(static_cast<float>(beta),
                                              static_cast<float>(1 - beta), static_cast<float>(t));
      EXPECT_NEAR(got / exact, 1, 25 * 6 * kUnit) << beta << " " << t;  // as its comment says
    }
  }
}

TEST(AdamWKernelTest, BFloat16WeightsAreTheFloat32StepRoundedToNearest) {
  torch::manual_seed(73);
  AdamWTensor narrow = random_tensor({41, 13}, at::kBFloat16);
  AdamWTensor wide = copy_of(narrow);
  wide.weight = narrow.weight.to(at::kFloat);
  adamw_({narrow, wide}, step_of(0.02));
  EXPECT_TRUE(at::equal(narrow.weight, wide.weight.to(at::kBFloat16)));
  EXPECT_TRUE(at::equal(narrow.exp_avg, wide.exp_avg));
  EXPECT_TRUE(at::equal(narrow.exp_avg_sq, wide.exp_avg_sq));
}

TEST(AdamWKernelTest, AMasterCopyKeepsWhatBFloat16Loses) {
  AdamWTensor t = random_tensor({300}, at::kBFloat16);
  t.weight.fill_(1);
  t.grad.fill_(-1);
  t.weight_decay = 0;
  AdamWTensor lost = copy_of(t);
  t.master = t.weight.to(at::kFloat);
  AdamWTensor wide = copy_of(t);
  wide.weight = t.master.clone();
  wide.master = Tensor();
  // Each step adds 1e-4, well below half of bfloat16's step of 2^-7 at 1; forty exceed it.
  for (int k = 0; k < 40; ++k) adamw_({t, lost, wide}, step_of(1e-4));
  EXPECT_TRUE(at::equal(t.master, wide.weight));
  EXPECT_TRUE(at::equal(t.weight, wide.weight.to(at::kBFloat16)));
  EXPECT_EQ(t.weight[0].item<float>(), 1 + 1.0f / 128);
  EXPECT_EQ(lost.weight[0].item<float>(), 1);
}

TEST(AdamWKernelTest, AWeightThatWasSetTakesThePlaceOfItsMasterCopy) {
  AdamWTensor t = random_tensor({2}, at::kBFloat16);
  t.weight.fill_(1);
  t.grad.fill_(0);
  t.weight_decay = 0;
  t.master = torch::tensor({1.001f, 1.001f});  // rounds to 1
  t.weight[1] = 2;
  adamw_({t}, step_of(0.1));
  EXPECT_TRUE(at::equal(t.master, torch::tensor({1.001f, 2.0f})));
  EXPECT_TRUE(at::equal(t.weight, torch::tensor({1.0f, 2.0f}, at::kBFloat16)));
}

template <int N>
void expect_codes() {
  constexpr uint32_t kCodes = 1u << N;
  EXPECT_EQ(cuda::share_of_code<N>(0), 0);
  EXPECT_EQ(cuda::share_of_code<N>(1), std::ldexp(1.0f, -3 * (N - 1)));
  EXPECT_EQ(cuda::share_of_code<N>(kCodes / 2 - 1), 0.125f);
  EXPECT_EQ(cuda::share_of_code<N>(kCodes - 1), 1);
  for (uint32_t code = 0; code < kCodes; ++code) {
    const float share = cuda::share_of_code<N>(code);
    EXPECT_EQ(cuda::code_of_share<N>(share), code);
    if (code == 0) continue;
    const float before = cuda::share_of_code<N>(code - 1);
    EXPECT_LT(before, share);
    if (code == 1) continue;
    // The border between two codes lies in the middle, to a rounding.
    EXPECT_EQ(cuda::code_of_share<N>(before * 0.501f + share * 0.499f), code - 1);
    EXPECT_EQ(cuda::code_of_share<N>(before * 0.499f + share * 0.501f), code);
  }
  EXPECT_EQ(cuda::code_of_share<N>(1.0000001f), kCodes - 1);
  EXPECT_EQ(cuda::code_of_share<N>(1e-30f), 0);
}

TEST(AdamWKernelTest, CodesStandForGrowingSharesAndTheNearestIsTaken) {
  expect_codes<7>();
  expect_codes<8>();
}

// No other code stands for a share nearer to x; those below the smallest are rounded up or down.
template <int N>
void expect_nearest(int code, double x) {
  const auto off = [x](int c) { return std::abs(cuda::share_of_code<N>(c) - x); };
  if (x < cuda::share_of_code<N>(1)) {
    EXPECT_LE(code, 1);
    return;
  }
  for (const int other : {code - 1, code + 1}) {
    // x and the share that was looked at differ by a rounding or two.
    if (other == 1 << N) continue;
    EXPECT_LE(off(code), off(other) + 4 * kUnit * x) << code << " for " << x;
  }
}

TEST(AdamWKernelTest, EightBitMomentsAreThoseOfTheStepRoundedToCodes) {
  torch::manual_seed(74);
  AdamWTensor coded = random_tensor({3, 300}, at::kFloat, at::kByte);
  AdamWTensor plain = random_tensor({3, 300});
  plain.weight = coded.weight.clone();
  plain.grad = coded.grad = torch::randn({3, 300}) * torch::exp(torch::randn({3, 300}) * 3);
  plain.grad.view(-1)[5] = 0;
  adamw_({coded, plain}, step_of(0.01));
  EXPECT_TRUE(
      at::equal(coded.weight, plain.weight));  // the first moments are those before rounding

  const Tensor m = plain.exp_avg.view(-1), root = plain.exp_avg_sq.view(-1).sqrt();
  for (int64_t i = 0; i < m.numel(); ++i) {
    const int64_t block = i / 256, end = std::min<int64_t>(m.numel(), (block + 1) * 256);
    const auto scale = coded.exp_avg_scale[block].item<float>();
    const auto root_scale = coded.exp_avg_sq_scale[block].item<float>();
    EXPECT_EQ(scale, m.slice(0, block * 256, end).abs().max().item<float>());
    EXPECT_EQ(root_scale, root.slice(0, block * 256, end).max().item<float>());
    const int m_code = coded.exp_avg.view(-1)[i].item<uint8_t>();
    const int v_code = coded.exp_avg_sq.view(-1)[i].item<uint8_t>();
    EXPECT_EQ(m_code >= 128, m[i].item<float>() < 0);
    expect_nearest<7>(m_code % 128, std::abs(m[i].item<double>()) / scale);
    expect_nearest<8>(v_code, root[i].item<double>() / root_scale);
    EXPECT_EQ(v_code == 0, root[i].item<float>() == 0);
  }
}

TEST(AdamWKernelTest, EightBitMomentsLeadWhereFloat32OnesDo) {
  // A quadratic bowl whose curvatures differ by three orders within each block of codes.
  torch::manual_seed(75);
  const Tensor curvature = torch::exp(torch::rand({1024}) * 7), target = torch::randn({1024});
  std::vector<AdamWTensor> tensors{random_tensor({1024}, at::kFloat, at::kByte),
                                   random_tensor({1024})};
  const auto loss = [&](const AdamWTensor& t) {
    return (curvature * (t.weight - target).square()).mean().item<double>();
  };
  const double before = loss(tensors[0]);
  for (int k = 0; k < 400; ++k) {
    for (AdamWTensor& t : tensors) {
      t.weight_decay = 0;
      t.grad = curvature * (t.weight - target) * (1 + 0.3 * torch::randn({1024}));
    }
    adamw_(tensors, step_of(0.02 * (1 - k / 400.0)));
  }
  // Steps of 0.02 that fall to 0 add up to 4, and distances at the start have the deviation
  // sqrt(2): of one in 200 more than 4, which is 0.1 % of the loss, would be left; ten times that
  // is allowed.
  for (const AdamWTensor& t : tensors) EXPECT_LT(loss(t), 0.01 * before);
}

TEST(AdamWKernelTest, ASetFlagKeepsEverythingAsItIs) {
  for (const auto moments : {at::kFloat, at::kByte}) {
    AdamWTensor t = random_tensor({500}, at::kFloat, moments);
    AdamWStep step = step_of(0.1);
    adamw_({t}, step);
    const AdamWTensor before = copy_of(t);
    t.grad.fill_(NAN);
    step.skip = torch::ones({1}, at::kInt);
    adamw_({t}, step);
    EXPECT_TRUE(same(t, before));
    t.grad.fill_(1);
    step.skip.zero_();
    adamw_({t}, step);
    EXPECT_FALSE(same(t, before));
    EXPECT_EQ(t.step.item<float>(), 2);
  }
}

TEST(AdamWKernelTest, BitsDoNotDependOnTheNumberOfThreads) {
  torch::manual_seed(76);
  std::vector<AdamWTensor> one, two;
  for (const auto moments : {at::kFloat, at::kByte}) {
    one.push_back(random_tensor({50001}, at::kFloat, moments));
    two.push_back(copy_of(one.back()));
  }
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  adamw_(one, step_of(0.1));
  at::set_num_threads(2);
  adamw_(two, step_of(0.1));
  at::set_num_threads(threads);
  for (size_t i = 0; i < 2; ++i) EXPECT_TRUE(same(one[i], two[i]));
}

TEST(AdamWKernelTest, AutogradSeesThatAWeightHasChanged) {
  AdamWTensor t = random_tensor({3});
  const Tensor w = torch::ones({3}).requires_grad_();
  const Tensor loss = w.square().sum();
  t.weight = w.detach();
  adamw_({t}, step_of(0.1));
  EXPECT_THROW_WITH(loss.backward(), "modified by an inplace operation");
}

TEST(AdamWKernelTest, TakesLayoutsWithoutGapsAsTheyAre) {
  torch::manual_seed(77);
  AdamWTensor rows = random_tensor({30, 20});
  AdamWTensor columns = random_tensor({30, 20});
  const auto transposed = [](const Tensor& x) { return x.t().contiguous().t(); };
  columns.weight = transposed(rows.weight);
  columns.grad = transposed(rows.grad);
  columns.exp_avg = transposed(rows.exp_avg);
  columns.exp_avg_sq = transposed(rows.exp_avg_sq);
  adamw_({rows, columns}, step_of(0.1));
  EXPECT_TRUE(at::equal(rows.weight, columns.weight));
}

TEST(AdamWKernelTest, RefusesWhatDoesNotFitBeforeAnythingIsChanged) {
  const AdamWTensor good = random_tensor({4, 6});
  const AdamWTensor before = copy_of(good);
  const auto refuse = [&](const auto& change) {
    AdamWTensor bad = random_tensor({4, 6}, at::kBFloat16, at::kByte);
    AdamWStep step = step_of(0.1);
    change(bad, step);
    return support::message_of([&] { adamw_({good, bad}, step); });
  };
  const auto expect = [](const std::string& message, const std::string& part) {
    EXPECT_NE(message.find(part), std::string::npos) << message;
  };
  expect(refuse([](auto& t, auto&) { t.weight = t.weight.to(at::kDouble); }),
         "weights must be float32 or bfloat16, got Double");
  expect(refuse([](auto& t, auto&) {
           t.grad = torch::zeros({4, 5});
         }),
         "a weight is [4, 6] on cpu, but its gradient is [4, 5]");
  expect(refuse([](auto& t, auto&) { t.grad = torch::zeros({6, 4}).t(); }), "strides [6, 1]");
  expect(refuse([](auto& t, auto&) {
           t.grad = torch::zeros({4, 6}, at::kDouble);
         }),
         "gradients must be float32 or bfloat16");
  expect(refuse([](auto& t, auto&) { t.exp_avg = torch::zeros({4, 6}); }), "moments must both be");
  expect(refuse([](auto& t, auto&) { t.exp_avg_scale = Tensor(); }), "moments have scales where");
  expect(refuse([](auto& t, auto&) { t.exp_avg_scale = torch::zeros({2}); }), "scales must be 1");
  expect(refuse([](auto& t, auto&) { t.step = torch::zeros({2}); }),
         "a count of steps must be one");
  expect(refuse([&](auto& t, auto&) { t.step = good.step; }), "two weights share a count of steps");
  expect(refuse([](auto& t, auto&) {
           t.master = torch::zeros({4, 6}, at::kBFloat16);
         }),
         "master copies are float32");
  expect(refuse([](auto&, auto& step) { step.lr = Tensor(); }), "lr must be one float32 on cpu");
  expect(refuse([](auto&, auto& step) { step.clip = torch::zeros({3}); }), "the clip factor");
  expect(refuse([](auto&, auto& step) { step.skip = torch::zeros({1}); }), "the skip flag");
  EXPECT_TRUE(same(good, before));
}

}  // namespace
}  // namespace rev::kernels
