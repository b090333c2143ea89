// The norms of cuda/norm_math.h as plain loops, for the tests of the kernels and of the CPU path.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "cuda/sum_math.h"

namespace rev::support {

struct PlainNorm {
  std::vector<float> y, mean, rstd;
};

/// Of x [rows, n], weight [n], bias [n] or empty.
inline PlainNorm plain_norm(const std::vector<float>& x, const std::vector<float>& weight,
                            const std::vector<float>& bias, float eps, bool centred, int64_t rows) {
  const auto n = static_cast<int64_t>(weight.size());
  const float inverse = 1.0f / static_cast<float>(n);
  PlainNorm out;
  for (int64_t row = 0; row < rows; ++row) {
    const float* from = x.data() + row * n;
    const auto value = [&](int64_t j) { return from[j]; };
    const float mean = centred ? cuda::ordered_sum<32>(n, value) * inverse : 0.0f;
    const auto square = [&](int64_t j) { return (from[j] - mean) * (from[j] - mean); };
    const float rstd = 1.0f / std::sqrt(cuda::ordered_sum<32>(n, square) * inverse + eps);
    for (int64_t j = 0; j < n; ++j) {
      const auto i = static_cast<std::size_t>(j);
      const float product = (from[j] - mean) * rstd * weight[i];
      out.y.push_back(bias.empty() ? product : product + bias[i]);
    }
    out.mean.push_back(mean);
    out.rstd.push_back(rstd);
  }
  return out;
}

struct PlainNormGradients {
  std::vector<float> x, weight, bias;
};

/// From dy and x [rows, n], weight [n] and what `plain_norm` made of them.
inline PlainNormGradients plain_norm_backward(const std::vector<float>& dy,
                                              const std::vector<float>& x,
                                              const std::vector<float>& weight,
                                              const PlainNorm& forward, bool centred,
                                              int64_t rows) {
  const auto n = static_cast<int64_t>(weight.size());
  const float inverse = 1.0f / static_cast<float>(n);
  const auto gradient = [&](int64_t row, int64_t j) {
    return dy[static_cast<std::size_t>(row * n + j)];
  };
  const auto normed = [&](int64_t row, int64_t j) {
    const auto i = static_cast<std::size_t>(row);
    return (x[static_cast<std::size_t>(row * n + j)] - forward.mean[i]) * forward.rstd[i];
  };
  PlainNormGradients out;
  for (int64_t row = 0; row < rows; ++row) {
    const auto d = [&](int64_t j) {
      return gradient(row, j) * weight[static_cast<std::size_t>(j)];
    };
    const auto dn = [&](int64_t j) { return d(j) * normed(row, j); };
    const float mean_d = centred ? cuda::ordered_sum<32>(n, d) * inverse : 0.0f;
    const float mean_dn = cuda::ordered_sum<32>(n, dn) * inverse;
    for (int64_t j = 0; j < n; ++j) {
      out.x.push_back(((d(j) - mean_d) - normed(row, j) * mean_dn) *
                      forward.rstd[static_cast<std::size_t>(row)]);
    }
  }
  constexpr int64_t kSlice = 32;
  const auto over_rows = [&](const auto& term) {
    return cuda::ordered_sum<4>((rows + kSlice - 1) / kSlice, [&](int64_t slice) {
      float sum = 0.0f;
      for (int64_t row = kSlice * slice; row < std::min(rows, kSlice * (slice + 1)); ++row) {
        sum += term(row);
      }
      return sum;
    });
  };
  for (int64_t j = 0; j < n; ++j) {
    out.weight.push_back(over_rows([&](int64_t row) { return gradient(row, j) * normed(row, j); }));
    out.bias.push_back(over_rows([&](int64_t row) { return gradient(row, j); }));
  }
  return out;
}

}  // namespace rev::support
