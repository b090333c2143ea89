// A block takes a row of both sets of logits, a warp a narrow one: one pass for each one's maximum
// and sum, one for the divergence, and, for the reverse one, whose gradient needs the divergence, a
// third; all but the first find the row in L2.
#include <type_traits>

#include "cuda/block.h"
#include "cuda/kl.h"
#include "cuda/kl_math.h"
#include "cuda/launch.h"

namespace rev::cuda {
namespace {

// This lane's elements from `column` on, both rows'. Beyond the rows' end they are -inf, whose
// terms are 0.
template <bool kWide, class T>
struct Loaded {
  T t[kLaneSums], s[kLaneSums];

  __device__ __forceinline__ Loaded(const T* teacher, const T* student, int column, int n) {
    load_inside<kWide>(teacher, column, n, t);
    load_inside<kWide>(student, column, n, s);
  }
};

// U is T, or const T where no gradient is asked for.
template <bool kWide, int W, bool kReverse, class T, class U>
__global__ void __launch_bounds__(kBlock)
    kl_kernel(const T* teachers, U* students, const int64_t* targets, float* divergences,
              KlRows size, KlTerms terms) {
  constexpr int kRowsOfBlock = kBlock / W, kRound = W * kLaneSums;
  constexpr bool kGradient = !std::is_const_v<U>;
  __shared__ Exchange<W> exchange;
  const int lane = static_cast<int>(threadIdx.x) % W;
  const int n = static_cast<int>(size.width);
  const int64_t stride = int64_t{gridDim.x} * kRowsOfBlock;
  for (int64_t i = int64_t{blockIdx.x} * kRowsOfBlock + threadIdx.x / W; i < size.rows;
       i += stride) {
    const int64_t row = size.rows - 1 - i;  // the last rows of a product are still in L2
    const T* const teacher = teachers + row * size.teacher_stride;
    U* const student = students + row * size.student_stride;
    const bool ignored = targets != nullptr && targets[row] == kIgnoredTarget;
    const float slope = terms.factor * terms.scale;
    Distribution p{}, q{};
    float divergence = 0.0f;
    if (!ignored) {
      p = distribution(row_softmax<kWide, W>(teacher, n, terms.scale, exchange), terms.scale);
      q = distribution(row_softmax<kWide, W, T>(student, n, terms.scale, exchange), terms.scale);
      float sum[kLaneSums] = {};
      for (int column = lane * kLaneSums; column < n; column += kRound) {
        const Loaded<kWide, T> x(teacher, student, column, n);
        float gradient[kLaneSums];
#pragma unroll
        for (int k = 0; k < kLaneSums; ++k) {
          const Pair e = pair(widen(x.t[k]), widen(x.s[k]), p, q);
          if (column + k < n) sum[k] += divergence_term<kReverse>(e);
          gradient[k] = divergence_gradient<false>(e, 0.0f, slope);
        }
        if constexpr (kGradient && !kReverse) store_inside<kWide>(student, column, n, gradient);
      }
      divergence = ordered_row_sum<W>(sum, exchange);
    }
    if (lane == 0) divergences[row] = divergence;
    if constexpr (kGradient) {
      if (!kReverse && !ignored) continue;
      for (int column = lane * kLaneSums; column < n; column += kRound) {
        float gradient[kLaneSums] = {};
        if (!ignored) {
          const Loaded<kWide, T> x(teacher, student, column, n);
#pragma unroll
          for (int k = 0; k < kLaneSums; ++k) {
            const Pair e = pair(widen(x.t[k]), widen(x.s[k]), p, q);
            gradient[k] = divergence_gradient<kReverse>(e, divergence, slope);
          }
        }
        store_inside<kWide>(student, column, n, gradient);
      }
    }
  }
}

template <int W, bool kReverse, class T, class U>
void launch_rows(const T* teacher, U* student, const int64_t* targets, float* divergence,
                 const KlRows& size, const KlTerms& terms, Stream stream) {
  const unsigned blocks = blocks_for(size.rows, kBlock / W);
  if (wide_starts(teacher, size.teacher_stride) && wide_starts(student, size.student_stride)) {
    launch(kl_kernel<true, W, kReverse, T, U>, blocks, stream, teacher, student, targets,
           divergence, size, terms);
  } else {
    launch(kl_kernel<false, W, kReverse, T, U>, blocks, stream, teacher, student, targets,
           divergence, size, terms);
  }
}

template <class T, class U>
void launch_any(const T* teacher, U* student, const int64_t* targets, float* divergence,
                const KlRows& size, const KlTerms& terms, Stream stream) {
  if (size.rows == 0) return;
  if (is_narrow(size.width)) {
    (terms.reverse ? launch_rows<kWarp, true, T, U>
                   : launch_rows<kWarp, false, T, U>)(teacher, student, targets, divergence, size,
                                                      terms, stream);
  } else {
    (terms.reverse ? launch_rows<kBlock, true, T, U>
                   : launch_rows<kBlock, false, T, U>)(teacher, student, targets, divergence, size,
                                                       terms, stream);
  }
}

}  // namespace

template <class T>
void launch_kl_gradient(const T* teacher, T* student, const int64_t* targets, float* divergence,
                        const KlRows& size, const KlTerms& terms, Stream stream) {
  launch_any(teacher, student, targets, divergence, size, terms, stream);
}

template <class T>
void launch_kl(const T* teacher, const T* student, const int64_t* targets, float* divergence,
               const KlRows& size, const KlTerms& terms, Stream stream) {
  launch_any(teacher, student, targets, divergence, size, terms, stream);
}

#define REV_LOGIT_TYPE(T)                                                               \
  template void launch_kl_gradient(const T*, T*, const int64_t*, float*, const KlRows&, \
                                   const KlTerms&, Stream);                             \
  template void launch_kl(const T*, const T*, const int64_t*, float*, const KlRows&,    \
                          const KlTerms&, Stream);
REV_LOGIT_TYPE(float)
REV_LOGIT_TYPE(BFloat16)

}  // namespace rev::cuda
