// A block takes a row of logits, a warp a narrow one: one pass for the maximum and the sum, and one
// that writes the gradient over the logits, which finds them in L2.
#include <type_traits>

#include "cuda/block.h"
#include "cuda/cross_entropy.h"
#include "cuda/launch.h"

namespace rev::cuda {
namespace {

// T is const where no gradient is asked for.
template <bool kWide, int W, class T>
__global__ void __launch_bounds__(kBlock)
    cross_entropy_kernel(T* logits, const int64_t* targets, RowLosses to, LogitRows size,
                         CrossEntropy terms) {
  constexpr int kRowsOfBlock = kBlock / W, kRound = W * kLaneSums;
  __shared__ Exchange<W> exchange;
  const int lane = static_cast<int>(threadIdx.x) % W;
  const int n = static_cast<int>(size.width);
  const int64_t stride = int64_t{gridDim.x} * kRowsOfBlock;
  for (int64_t i = int64_t{blockIdx.x} * kRowsOfBlock + threadIdx.x / W; i < size.rows;
       i += stride) {
    const int64_t row = size.rows - 1 - i;  // the last rows of a product are still in L2
    T* const x = logits + row * size.stride;
    RowLoss result{};
    float max = 0.0f;
    const int64_t given = targets[row];
    const bool ignored = given == kIgnoredTarget;
    const bool inside = given >= 0 && given < n;
    const int target = inside ? static_cast<int>(given) : -1;
    if (!ignored) {
      const Softmax softmax = row_softmax<kWide, W>(x, n, 1.0f, exchange);
      max = softmax.max;
      result = row_loss(softmax, inside ? widen(x[target]) : NAN, terms);
      if (!inside) result.slope = NAN;
    }
    if (lane == 0) {
      to.loss[row] = result.loss;
      if (to.lse != nullptr) to.lse[row] = result.lse;
    }
    if constexpr (!std::is_const_v<T>) {
      wait_for_row<W>();  // all lanes have read the target's logit
      for (int column = lane * kLaneSums; column < n; column += kRound) {
        T read[kLaneSums];
        float gradient[kLaneSums];
        load_inside<kWide>(x, column, n, read);
#pragma unroll
        for (int k = 0; k < kLaneSums; ++k) {
          gradient[k] = cross_entropy_gradient(widen(read[k]), max, result.slope);
          if (column + k == target) gradient[k] -= terms.factor;
          if (ignored) gradient[k] = 0.0f;  // whatever the logits are
        }
        store_inside<kWide>(x, column, n, gradient);
      }
    }
  }
}

template <int W, class T>
void launch_rows(T* logits, const int64_t* targets, const RowLosses& to, const LogitRows& size,
                 const CrossEntropy& terms, Stream stream) {
  const unsigned blocks = blocks_for(size.rows, kBlock / W);
  if (wide_starts(logits, size.stride)) {
    launch(cross_entropy_kernel<true, W, T>, blocks, stream, logits, targets, to, size, terms);
  } else {
    launch(cross_entropy_kernel<false, W, T>, blocks, stream, logits, targets, to, size, terms);
  }
}

template <class T>
void launch_any(T* logits, const int64_t* targets, const RowLosses& to, const LogitRows& size,
                const CrossEntropy& terms, Stream stream) {
  if (size.rows == 0) return;
  if (is_narrow(size.width)) {
    launch_rows<kWarp>(logits, targets, to, size, terms, stream);
  } else {
    launch_rows<kBlock>(logits, targets, to, size, terms, stream);
  }
}

}  // namespace

template <class T>
void launch_cross_entropy_gradient(T* logits, const int64_t* targets, const RowLosses& to,
                                   const LogitRows& size, const CrossEntropy& terms,
                                   Stream stream) {
  launch_any(logits, targets, to, size, terms, stream);
}

template <class T>
void launch_cross_entropy(const T* logits, const int64_t* targets, const RowLosses& to,
                          const LogitRows& size, const CrossEntropy& terms, Stream stream) {
  launch_any(logits, targets, to, size, terms, stream);
}

#define REV_LOGIT_TYPE(T)                                                                          \
  template void launch_cross_entropy_gradient(T*, const int64_t*, const RowLosses&,                \
                                              const LogitRows&, const CrossEntropy&, Stream);      \
  template void launch_cross_entropy(const T*, const int64_t*, const RowLosses&, const LogitRows&, \
                                     const CrossEntropy&, Stream);
REV_LOGIT_TYPE(float)
REV_LOGIT_TYPE(BFloat16)

}  // namespace rev::cuda
