#include "rev/kernels/kl.h"

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>

#include "cuda/kl.h"
#include "cuda/kl_math.h"
#include "cuda/sum_math.h"
#include "kernels/device.h"
#include "kernels/logits.h"
#include "kernels/vectors.h"

namespace rev::kernels {
namespace {

using at::Tensor;
using cuda::BFloat16;
using cuda::Distribution;

// What kTile elements add to the divergence, and the forward one's gradient.
template <bool kReverse, class T>
inline void divergence_tile(const T* teacher, const T* student, const Distribution& p,
                            const Distribution& q, float slope, float* terms, T* gradient) {
  for (int k = 0; k < cuda::kTile; ++k) {
    const cuda::Pair e = cuda::pair(cuda::widen(teacher[k]), cuda::widen(student[k]), p, q);
    terms[k] = cuda::divergence_term<kReverse>(e);
    gradient[k] = cuda::narrow<T>(cuda::divergence_gradient<false>(e, 0.0f, slope));
  }
}

// The divergence of a row, in the order of sum_math.h. Where the student's row may be written, the
// forward one's gradient is. The tiles are for the compiler, which makes vectors of their loops.
template <bool kReverse, int W, class T, class U>
inline float divergence_of(const T* teacher, U* student, int64_t n, const Distribution& p,
                           const Distribution& q, float slope) {
  constexpr int64_t P = int64_t{cuda::kLaneSums} * W;
  float sum[P] = {}, terms[cuda::kTile];
  T gradient[cuda::kTile], t[cuda::kTile] = {}, s[cuda::kTile] = {};
  for (int64_t begin = 0; begin < n; begin += cuda::kTile) {
    const int64_t count = std::min<int64_t>(cuda::kTile, n - begin);
    if (count == cuda::kTile) {
      divergence_tile<kReverse>(teacher + begin, student + begin, p, q, slope, terms, gradient);
    } else {
      std::copy_n(teacher + begin, count, t);
      std::copy_n(student + begin, count, s);
      divergence_tile<kReverse>(t, s, p, q, slope, terms, gradient);
    }
    for (int64_t k = 0; k < count; ++k) sum[begin % P + k] += terms[k];
    if constexpr (!kReverse && !std::is_const_v<U>) {
      std::copy_n(gradient, count, student + begin);
    }
  }
  return cuda::ordered_sum<W>(P, [&](int64_t k) { return sum[k]; });
}

template <class T, class U>
inline float divergence_of(bool reverse, const T* teacher, U* student, int64_t n,
                           const Distribution& p, const Distribution& q, float slope) {
  if (cuda::is_narrow(n)) {
    return reverse ? divergence_of<true, 32>(teacher, student, n, p, q, slope)
                   : divergence_of<false, 32>(teacher, student, n, p, q, slope);
  }
  return reverse ? divergence_of<true, 256>(teacher, student, n, p, q, slope)
                 : divergence_of<false, 256>(teacher, student, n, p, q, slope);
}

template <class T>
inline void reverse_gradient_of(const T* teacher, T* student, int64_t n, const Distribution& p,
                                const Distribution& q, float divergence, float slope) {
  for (int64_t j = 0; j < n; ++j) {
    const cuda::Pair e = cuda::pair(cuda::widen(teacher[j]), cuda::widen(student[j]), p, q);
    student[j] = cuda::narrow<T>(cuda::divergence_gradient<true>(e, divergence, slope));
  }
}

#define REV_DIVERGENCE_ROW(T, U)                                                                \
  REV_VECTOR_WIDTHS float divergence_row(bool reverse, const T* teacher, U* student, int64_t n, \
                                         const Distribution& p, const Distribution& q,          \
                                         float slope) {                                         \
    return divergence_of(reverse, teacher, student, n, p, q, slope);                            \
  }
REV_DIVERGENCE_ROW(float, float)
REV_DIVERGENCE_ROW(float, const float)
REV_DIVERGENCE_ROW(BFloat16, BFloat16)
REV_DIVERGENCE_ROW(BFloat16, const BFloat16)

#define REV_REVERSE_GRADIENT_ROW(T)                                                         \
  REV_VECTOR_WIDTHS void reverse_gradient_row(const T* teacher, T* student, int64_t n,      \
                                              const Distribution& p, const Distribution& q, \
                                              float divergence, float slope) {              \
    reverse_gradient_of(teacher, student, n, p, q, divergence, slope);                      \
  }
REV_REVERSE_GRADIENT_ROW(float)
REV_REVERSE_GRADIENT_ROW(BFloat16)

// U is T, or const T where no gradient is asked for.
template <class T, class U>
void on_cpu(const T* teachers, U* students, const int64_t* targets, float* divergences,
            const cuda::KlRows& size, const cuda::KlTerms& terms) {
  const int64_t n = size.width;
  const float slope = terms.factor * terms.scale;
  const auto run = [&](int64_t row) {
    const T* const teacher = teachers + row * size.teacher_stride;
    U* const student = students + row * size.student_stride;
    if (targets != nullptr && targets[row] == kIgnoreIndex) {
      if constexpr (!std::is_const_v<U>) std::fill(student, student + n, T{});
      return 0.0f;
    }
    const Distribution p = cuda::distribution(softmax_row(teacher, n, terms.scale), terms.scale);
    const Distribution q = cuda::distribution(softmax_row(student, n, terms.scale), terms.scale);
    const float divergence = divergence_row(terms.reverse, teacher, student, n, p, q, slope);
    if constexpr (!std::is_const_v<U>) {
      if (terms.reverse) reverse_gradient_row(teacher, student, n, p, q, divergence, slope);
    }
    return divergence;
  };
  at::parallel_for(0, size.rows, grain_of_logits(n), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) divergences[row] = run(row);
  });
}

// What both operators do, by body(teacher, student, target, divergence, size), a kernel's launch or
// the CPU path.
struct Call {
  cuda::KlRows size;
  Tensor divergence;
  Tensor targets;

  Call(const char* op, const Tensor& teacher, const Tensor& student, const KlOptions& options) {
    check_logits(op, "the teacher's logits", teacher);
    check_logits(op, "the student's logits", student);
    TORCH_CHECK(teacher.sizes() == student.sizes() &&
                    teacher.scalar_type() == student.scalar_type() &&
                    teacher.device() == student.device(),
                op, ": the teacher's logits are ", teacher.scalar_type(), " ", teacher.sizes(),
                " on ", teacher.device(), ", the student's ", student.scalar_type(), " ",
                student.sizes(), " on ", student.device());
    // Below this its inverse, which logits are multiplied by, is infinite in float32.
    constexpr float kLeast = std::numeric_limits<float>::min();
    TORCH_CHECK(options.temperature >= kLeast && std::isfinite(options.temperature), op,
                ": the temperature must be finite and at least ", kLeast, ", got ",
                options.temperature);
    if (options.targets.defined()) {
      check_targets(op, options.targets, student);
      targets = options.targets.contiguous();
    }
    size = {student.size(0), student.size(1), row_stride(teacher), row_stride(student)};
    divergence = at::empty({size.rows}, student.options().dtype(at::kFloat));
  }

  const int64_t* target() const { return pointer_or_null<const int64_t>(targets); }
  float* to() const { return divergence.mutable_data_ptr<float>(); }
};

cuda::KlTerms terms_of(const KlOptions& options, double factor) {
  return {static_cast<float>(1 / options.temperature), static_cast<float>(factor),
          options.direction == Divergence::Reverse};
}

template <class T>
const T* elements(const Tensor& x) {
  return static_cast<const T*>(x.const_data_ptr());
}

}  // namespace

Tensor kl(const Tensor& teacher, const Tensor& student, const KlOptions& options) {
  const Call call("kl", teacher, student, options);
  const cuda::KlTerms terms = terms_of(options, 1);
  const auto launch = [&](auto stream) {
    with_float(student, [&](const auto* s) {
      using T = std::remove_cvref_t<decltype(*s)>;
      cuda::launch_kl(elements<T>(teacher), s, call.target(), call.to(), call.size, terms, stream);
    });
  };
  if (on_device("kl", student, launch)) return call.divergence;
  with_float(student, [&](const auto* s) {
    using T = std::remove_cvref_t<decltype(*s)>;
    on_cpu(elements<T>(teacher), s, call.target(), call.to(), call.size, terms);
  });
  return call.divergence;
}

Tensor kl_(const Tensor& teacher, Tensor& student, const KlOptions& options, double factor) {
  const Call call("kl_", teacher, student, options);
  const cuda::KlTerms terms = terms_of(options, factor);
  const auto launch = [&](auto stream) {
    with_mutable_float(student, [&](auto* s) {
      using T = std::remove_cvref_t<decltype(*s)>;
      cuda::launch_kl_gradient(elements<T>(teacher), s, call.target(), call.to(), call.size, terms,
                               stream);
    });
  };
  if (on_device("kl_", student, launch)) return call.divergence;
  with_mutable_float(student, [&](auto* s) {
    using T = std::remove_cvref_t<decltype(*s)>;
    on_cpu(elements<T>(teacher), s, call.target(), call.to(), call.size, terms);
  });
  return call.divergence;
}

}  // namespace rev::kernels
