#include "rev/kernels/embedding.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <algorithm>
#include <limits>
#include <vector>

#include "cuda/embedding.h"
#include "kernels/device.h"
#include "kernels/vectors.h"
#include "rev/kernels/dtype.h"

namespace rev::kernels {
namespace {

using at::Tensor;

template <class G>
REV_VECTOR_WIDTHS void add_row(float* __restrict sum, const G* __restrict row, int64_t n) {
  for (int64_t j = 0; j < n; ++j) sum[j] += cuda::widen(row[j]);
}

template <class W>
REV_VECTOR_WIDTHS void store_row(W* __restrict row, const float* __restrict sum, int64_t n) {
  for (int64_t j = 0; j < n; ++j) row[j] = cuda::narrow<W>(sum[j]);
}

// The places of tokens in order, those of equal tokens growing.
std::vector<int64_t> sorted_places(const int64_t* tokens, int64_t n, int64_t vocabulary) {
  std::vector<int64_t> next(static_cast<size_t>(vocabulary) + 1);  // token v's next place, from v
  for (int64_t i = 0; i < n; ++i) {
    TORCH_CHECK(tokens[i] >= 0 && tokens[i] < vocabulary, "embedding_backward: token ", i, " is ",
                tokens[i], ", expected 0 to ", vocabulary - 1);
    ++next[tokens[i] + 1];
  }
  for (int64_t v = 0; v < vocabulary; ++v) next[v + 1] += next[v];
  std::vector<int64_t> places(n);
  for (int64_t i = 0; i < n; ++i) places[next[tokens[i]]++] = i;
  return places;
}

template <class W, class G>
void add_rows(W* dweight, const G* grad, const int64_t* tokens, int64_t n, int64_t channels,
              int64_t vocabulary) {
  const std::vector<int64_t> places = sorted_places(tokens, n, vocabulary);
  const int64_t grain = std::max<int64_t>(1, kGrain / channels);
  at::parallel_for(0, n, grain, [&](int64_t begin, int64_t end) {
    std::vector<float> sum(channels);
    for (int64_t i = begin; i < end; ++i) {
      const int64_t token = tokens[places[i]];
      // A token's rows are added where its first one lies.
      if (i > 0 && tokens[places[i - 1]] == token) continue;
      std::fill(sum.begin(), sum.end(), 0.0f);
      for (int64_t j = i; j < n && tokens[places[j]] == token; ++j) {
        add_row(sum.data(), grad + places[j] * channels, channels);
      }
      store_row(dweight + token * channels, sum.data(), channels);
    }
  });
}

}  // namespace

Tensor embedding_backward(const Tensor& grad, const Tensor& tokens, int64_t vocabulary,
                          at::ScalarType dtype) {
  check_type_of_device("embedding_backward", grad.device());
  TORCH_CHECK(is_kernel_float(grad.scalar_type()) && is_kernel_float(dtype),
              "embedding_backward: gradients must be float32 or bfloat16, got ", grad.scalar_type(),
              " for ", dtype);
  TORCH_CHECK(tokens.scalar_type() == at::kLong && grad.dim() == tokens.dim() + 1 &&
                  grad.sizes().slice(0, tokens.dim()) == tokens.sizes(),
              "embedding_backward: grad is ", grad.sizes(), " and tokens are ",
              tokens.scalar_type(), " ", tokens.sizes(), ", expected [..,C] and int64 [..]");
  TORCH_CHECK(grad.device() == tokens.device(), "embedding_backward: grad is on ", grad.device(),
              " but tokens are on ", tokens.device());
  constexpr int64_t kMost = std::numeric_limits<int32_t>::max();
  TORCH_CHECK(vocabulary >= 0 && vocabulary < kMost && tokens.numel() < kMost,
              "embedding_backward: at most ", kMost - 1, " tokens of as many kinds, got ",
              tokens.numel(), " of ", vocabulary);
  const Tensor rows = grad.contiguous(), order = tokens.contiguous();
  const int64_t n = tokens.numel(), channels = grad.size(-1);
  Tensor dweight = at::zeros({vocabulary, channels}, grad.options().dtype(dtype));
  if (dweight.numel() == 0 || n == 0) return dweight;
  const int64_t* from = order.const_data_ptr<int64_t>();

  const auto launch = [&](auto stream) {
    const Tensor memory = at::empty({cuda::sort_tokens_words(n)}, tokens.options().dtype(at::kInt));
    const cuda::SortedTokens sorted =
        cuda::launch_sort_tokens(from, n, vocabulary, memory.mutable_data_ptr<int32_t>(), stream);
    with_mutable_float(dweight, [&](auto* to) {
      with_float(rows, [&](const auto* g) {
        cuda::launch_embedding_backward(to, g, sorted, n, channels, vocabulary, stream);
      });
    });
  };
  if (on_device("embedding_backward", rows, launch)) return dweight;
  with_mutable_float(dweight, [&](auto* to) {
    with_float(rows, [&](const auto* g) { add_rows(to, g, from, n, channels, vocabulary); });
  });
  return dweight;
}

}  // namespace rev::kernels
