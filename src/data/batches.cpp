#include "rev/data/batches.h"

#include <ATen/core/PhiloxRNGEngine.h>
#include <ATen/ops/empty.h>
#include <algorithm>
#include <c10/util/Exception.h>
#include <vector>

namespace rev::data {
namespace {

// The windows of T + 1 tokens at begin_of(0), .., begin_of(B - 1).
template <class BeginOf>
Batch read_windows(const TokenSource& tokens, std::int64_t B, std::int64_t T,
                   const BeginOf& begin_of) {
  Batch batch{at::empty({B, T}, at::kLong), at::empty({B, T}, at::kLong)};
  auto* inputs = batch.inputs.mutable_data_ptr<std::int64_t>();
  auto* targets = batch.targets.mutable_data_ptr<std::int64_t>();
  std::vector<std::int64_t> window(static_cast<std::size_t>(T) + 1);
  for (std::int64_t b = 0; b < B; ++b) {
    tokens.read(begin_of(b), T + 1, window.data());
    inputs = std::copy(window.begin(), window.end() - 1, inputs);
    targets = std::copy(window.begin() + 1, window.end(), targets);
  }
  return batch;
}

void check_sizes(const TokenSource& tokens, std::int64_t B, std::int64_t T) {
  TORCH_CHECK(B > 0 && T > 0, "batch: expected B > 0 and T > 0, got B = ", B, " and T = ", T);
  TORCH_CHECK(tokens.size() > T, "batch: windows of T = ", T, " need at least ", T + 1,
              " tokens, the data have ", tokens.size());
}

/// A number in [0, n) that depends on the arguments alone.
std::int64_t draw(std::uint64_t seed, std::uint64_t step, std::uint64_t row, std::int64_t n) {
  at::Philox4_32 philox(seed, row, step);
  const std::uint64_t high = philox();
  const std::uint64_t bits = (high << 32) | philox();
  // floor(bits n / 2^64): uniform up to n / 2^64.
  __extension__ using Wide = unsigned __int128;
  return static_cast<std::int64_t>((static_cast<Wide>(bits) * static_cast<Wide>(n)) >> 64);
}

}  // namespace

Batch random_batch(const TokenSource& tokens, std::int64_t B, std::int64_t T,
                   const BatchPosition& position) {
  check_sizes(tokens, B, T);
  return read_windows(tokens, B, T, [&](std::int64_t b) {
    return draw(position.seed, static_cast<std::uint64_t>(position.step),
                static_cast<std::uint64_t>(position.micro_step * B + b), tokens.size() - T);
  });
}

std::int64_t count_windows(const TokenSource& tokens, std::int64_t T) {
  TORCH_CHECK(T > 0, "count_windows: expected T > 0, got ", T);
  return std::max<std::int64_t>(tokens.size() - 1, 0) / T;
}

Batch sequential_batch(const TokenSource& tokens, std::int64_t first, std::int64_t B,
                       std::int64_t T) {
  check_sizes(tokens, B, T);
  const std::int64_t n_windows = count_windows(tokens, T);
  TORCH_CHECK(first >= 0 && first < n_windows, "sequential_batch: window ", first,
              " asked for, there are ", n_windows);
  return read_windows(tokens, std::min(B, n_windows - first), T,
                      [&](std::int64_t b) { return (first + b) * T; });
}

}  // namespace rev::data
