#include "kernels/logits.h"

namespace rev::kernels {
namespace {

template <class T>
inline cuda::Softmax softmax_of(const T* x, int64_t n, float scale) {
  return cuda::is_narrow(n) ? cuda::ordered_softmax<32>(x, n, scale)
                            : cuda::ordered_softmax<256>(x, n, scale);
}

}  // namespace

REV_VECTOR_WIDTHS cuda::Softmax softmax_row(const float* x, int64_t n, float scale) {
  return softmax_of(x, n, scale);
}
REV_VECTOR_WIDTHS cuda::Softmax softmax_row(const cuda::BFloat16* x, int64_t n, float scale) {
  return softmax_of(x, n, scale);
}

}  // namespace rev::kernels
