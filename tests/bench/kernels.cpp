#include <chrono>
#include <fmt/format.h>
#include <functional>
#include <torch/torch.h>

#include "bench/commands.h"
#include "rev/kernels/grid.h"

namespace rev::bench {
namespace {

using at::Tensor;

struct Operator {
  std::string name;
  double bytes;  // that it must read and write, an element
  std::function<void()> run;
  std::vector<double> seconds;
};

void wait(c10::Device device) {
  if (device.is_cuda()) torch::cuda::synchronize();
}

}  // namespace

Table kernels(const KernelsOptions& options) {
  const auto float32 = torch::TensorOptions().device(options.device);
  const std::vector<int64_t> sizes = {options.rows, options.channels};
  torch::manual_seed(1);
  const Tensor f = torch::randn(sizes, float32), f16 = f.to(at::kBFloat16);
  const Tensor from = torch::randn(sizes, float32);
  Tensor to = torch::empty_like(from);
  const Tensor x = rev::kernels::encode(torch::randn(sizes, float32), at::kInt, 16);
  Tensor y = x.clone();
  Tensor digits = torch::zeros_like(y);
  const auto sums = [&] { return torch::empty({options.rows}, float32.dtype(at::kLong)); };
  const rev::kernels::Probe none;
  rev::kernels::Probe proof;
  proof.after = sums();
  proof.saturated = torch::zeros({1}, float32.dtype(at::kInt));

  // Calls come in pairs, a step and its undoing, so that the state ends where it began.
  double sign = 1.0;
  const Tensor before = y.clone();
  std::vector<Operator> operators;
  const auto add = [&](const std::string& name, double bytes, std::function<void()> run) {
    operators.push_back({name, bytes, std::move(run), {}});
  };
  add("copy", 8, [&] { to.copy_(from); });
  add("update", 12, [&] { rev::kernels::update_(y, f, sign, 16, none); });
  add("update, proved", 12, [&] { rev::kernels::update_(y, f, sign, 16, proof); });
  add("update, bfloat16, proved", 10, [&] { rev::kernels::update_(y, f16, sign, 16, proof); });
  add("reflect, proved", 16, [&] { rev::kernels::reflect_(y, x, f, 0.25, 16, proof); });
  add("blend, proved", 16, [&] { rev::kernels::blend_(y, x, 0.01 * sign, f, sign, 16, proof); });
  add("scale, 32-bit digits", 16, [&] {
    const rev::kernels::Ratio a{300, 256, false};
    (sign > 0 ? rev::kernels::scale_ : rev::kernels::unscale_)(y, digits, a, none);
  });
  add("row sums", 4, [&] { rev::kernels::row_sums(y); });
  add("decode", 8, [&] { rev::kernels::decode(y, 16); });

  for (int64_t round = -2; round < options.rounds; ++round) {  // the first two warm up
    for (Operator& op : operators) {
      wait(options.device);
      const auto start = std::chrono::steady_clock::now();
      for (int64_t i = 0; i < options.pairs; ++i) {
        for (sign = 1.0; sign >= -1.0; sign -= 2.0) op.run();
      }
      wait(options.device);
      const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
      if (round >= 0) op.seconds.push_back(took.count() / static_cast<double>(2 * options.pairs));
    }
  }
  TORCH_CHECK(at::equal(y, before), "kernels: steps and their undoing did not cancel");

  Table table{{"operator", "bytes/element", "GB/s", "of a copy", "least", "largest"}, {}};
  const auto n = static_cast<double>(options.rows * options.channels);
  const Operator& copy = operators.front();
  for (const Operator& op : operators) {
    std::vector<double> rates, shares;
    for (size_t r = 0; r < op.seconds.size(); ++r) {
      rates.push_back(op.bytes * n / op.seconds[r] / 1e9);
      shares.push_back(op.bytes / op.seconds[r] / (copy.bytes / copy.seconds[r]));
    }
    const Spread share = spread(shares);
    table.rows.push_back({op.name, fmt::format("{:.0f}", op.bytes),
                          fmt::format("{:.1f}", spread(rates).median),
                          fmt::format("{:.2f}", share.median), fmt::format("{:.2f}", share.least),
                          fmt::format("{:.2f}", share.largest)});
  }
  return table;
}

}  // namespace rev::bench
