#include "rev/kernels/cross_entropy.h"

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <algorithm>
#include <type_traits>

#include "cuda/cross_entropy.h"
#include "cuda/cross_entropy_math.h"
#include "kernels/device.h"
#include "kernels/logits.h"
#include "kernels/vectors.h"

namespace rev::kernels {
namespace {

using at::Tensor;
using cuda::BFloat16;

template <class T>
inline void gradient_of(T* x, int64_t n, float max, float slope) {
  for (int64_t j = 0; j < n; ++j) {
    x[j] = cuda::narrow<T>(cuda::cross_entropy_gradient(cuda::widen(x[j]), max, slope));
  }
}

REV_VECTOR_WIDTHS void gradient_row(float* x, int64_t n, float max, float slope) {
  gradient_of(x, n, max, slope);
}
REV_VECTOR_WIDTHS void gradient_row(BFloat16* x, int64_t n, float max, float slope) {
  gradient_of(x, n, max, slope);
}

// T is const where no gradient is asked for.
template <class T>
void on_cpu(T* logits, const int64_t* targets, const cuda::RowLosses& to,
            const cuda::LogitRows& size, const cuda::CrossEntropy& terms) {
  const int64_t n = size.width;
  const auto run = [&](int64_t row) {
    T* const x = logits + row * size.stride;
    const int64_t target = targets[row];
    if (target == kIgnoreIndex) {
      if constexpr (!std::is_const_v<T>) std::fill(x, x + n, T{});
      return cuda::RowLoss{};
    }
    const float logit = cuda::widen(x[target]);
    const cuda::Softmax softmax = softmax_row(x, n, 1.0f);
    const cuda::RowLoss result = cuda::row_loss(softmax, logit, terms);
    if constexpr (!std::is_const_v<T>) {
      gradient_row(x, n, softmax.max, result.slope);
      const float there = cuda::cross_entropy_gradient(logit, softmax.max, result.slope);
      x[target] = cuda::narrow<T>(there - terms.factor);
    }
    return result;
  };
  at::parallel_for(0, size.rows, grain_of_logits(n), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const cuda::RowLoss result = run(row);
      to.loss[row] = result.loss;
      if (to.lse != nullptr) to.lse[row] = result.lse;
    }
  });
}

// The arguments of both operators, as kernels take them.
struct Call {
  Tensor targets, loss;
  cuda::LogitRows size;
  cuda::RowLosses to;

  Call(const char* op, const Tensor& logits, const Tensor& given, const Tensor& lse)
      : targets(given.contiguous()) {
    check_logits(op, "logits", logits);
    check_targets(op, given, logits);
    size = {logits.size(0), logits.size(1), row_stride(logits)};
    TORCH_CHECK(!lse.defined() || (lse.dim() == 1 && lse.size(0) == size.rows &&
                                   lse.scalar_type() == at::kFloat && lse.is_contiguous() &&
                                   lse.device() == logits.device()),
                op, ": lse must be contiguous float32 [", size.rows, "] on ", logits.device(),
                ", got ", lse.scalar_type(), " ", lse.sizes(), " on ", lse.device());
    // On a GPU the program would have to wait for the targets.
    for (int64_t row = 0; targets.is_cpu() && row < size.rows; ++row) {
      const int64_t at_row = target()[row];
      TORCH_CHECK(at_row == kIgnoreIndex || (at_row >= 0 && at_row < size.width), op,
                  ": targets must be 0 to ", size.width - 1, " or ", kIgnoreIndex, ", got ", at_row,
                  " for row ", row);
    }
    loss = at::empty({size.rows}, logits.options().dtype(at::kFloat));
    to = {loss.mutable_data_ptr<float>(), pointer_or_null<float>(lse)};
  }

  const int64_t* target() const { return targets.const_data_ptr<int64_t>(); }
};

}  // namespace

Tensor cross_entropy(const Tensor& logits, const Tensor& targets, double z_loss,
                     const Tensor& lse) {
  const Call call("cross_entropy", logits, targets, lse);
  const cuda::CrossEntropy terms{static_cast<float>(z_loss), 1.0f};
  const auto launch = [&](auto stream) {
    with_float(logits, [&](const auto* x) {
      cuda::launch_cross_entropy(x, call.target(), call.to, call.size, terms, stream);
    });
  };
  if (on_device("cross_entropy", logits, launch)) return call.loss;
  with_float(logits, [&](const auto* x) { on_cpu(x, call.target(), call.to, call.size, terms); });
  return call.loss;
}

Tensor cross_entropy_(Tensor& logits, const Tensor& targets, double factor, double z_loss,
                      const Tensor& lse) {
  const Call call("cross_entropy_", logits, targets, lse);
  const cuda::CrossEntropy terms{static_cast<float>(z_loss), static_cast<float>(factor)};
  const auto launch = [&](auto stream) {
    with_mutable_float(logits, [&](auto* x) {
      cuda::launch_cross_entropy_gradient(x, call.target(), call.to, call.size, terms, stream);
    });
  };
  if (on_device("cross_entropy_", logits, launch)) return call.loss;
  with_mutable_float(logits, [&](auto* x) { on_cpu(x, call.target(), call.to, call.size, terms); });
  return call.loss;
}

}  // namespace rev::kernels
