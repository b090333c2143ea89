#include "rev/kernels/adamw.h"

#include <ATen/Parallel.h>
#include <algorithm>
#include <cmath>
#include <type_traits>

#include "cuda/adamw.h"
#include "cuda/adamw_math.h"
#include "kernels/device.h"
#include "kernels/vectors.h"
#include "rev/kernels/dtype.h"

namespace rev::kernels {
namespace {

using at::Tensor;
using cuda::AdamWFactors;
using cuda::BFloat16;
using cuda::kCodeBlock;

static_assert(kCodeBlock == kMomentBlock);

// ---- loops ----

template <class W, class G>
REV_VECTOR_WIDTHS void step_slice(W* __restrict w, const G* __restrict g, float* __restrict m,
                                  float* __restrict v, int64_t n, const AdamWFactors& factors) {
  const AdamWFactors f = factors;
  for (int64_t i = 0; i < n; ++i) {
    float weight = cuda::widen(w[i]);
    cuda::adamw_update(weight, cuda::widen(g[i]), m[i], v[i], f);
    w[i] = cuda::narrow<W>(weight);
  }
}

template <class G>
REV_VECTOR_WIDTHS void step_master_slice(BFloat16* __restrict w, float* __restrict master,
                                         const G* __restrict g, float* __restrict m,
                                         float* __restrict v, int64_t n,
                                         const AdamWFactors& factors) {
  const AdamWFactors f = factors;
  for (int64_t i = 0; i < n; ++i) {
    float weight = cuda::master_of(master[i], cuda::widen(w[i]));
    cuda::adamw_update(weight, cuda::widen(g[i]), m[i], v[i], f);
    master[i] = weight;
    w[i] = cuda::narrow<BFloat16>(weight);
  }
}

REV_VECTOR_WIDTHS void decode_block(float* __restrict m, float* __restrict v,
                                    const uint8_t* __restrict m_codes,
                                    const uint8_t* __restrict v_codes, int64_t n, float scale,
                                    float root_scale) {
  for (int64_t i = 0; i < n; ++i) {
    m[i] = cuda::decode_mean(m_codes[i], scale);
    v[i] = cuda::decode_square(v_codes[i], root_scale);
  }
}

// The largest magnitude; NaN where one is NaN, as its bits are the largest.
REV_VECTOR_WIDTHS float largest(const float* x, int64_t n) {
  uint32_t bits = 0;
  for (int64_t i = 0; i < n; ++i) bits = std::max(bits, cuda::bits_of(x[i]) & 0x7fffffffu);
  return cuda::float_of(bits);
}

REV_VECTOR_WIDTHS void encode_block(uint8_t* __restrict m_codes, uint8_t* __restrict v_codes,
                                    const float* __restrict m, const float* __restrict v, int64_t n,
                                    float inverse, float root_inverse) {
  for (int64_t i = 0; i < n; ++i) {
    m_codes[i] = cuda::encode_mean(m[i], inverse);
    v_codes[i] = cuda::encode_square(v[i], root_inverse);
  }
}

// Elements from i on, whose moments are m and v.
template <class W, class G, class M>
void step_elements(const cuda::AdamWTensor<W, G, M>& t, int64_t i, int64_t n, float* m, float* v,
                   const AdamWFactors& factors) {
  if constexpr (std::is_same_v<W, BFloat16>) {
    if (t.master != nullptr) {
      step_master_slice(t.weight + i, t.master + i, t.grad + i, m, v, n, factors);
      return;
    }
  }
  step_slice(t.weight + i, t.grad + i, m, v, n, factors);
}

template <class W, class G>
void step_chunk(const cuda::AdamWTensor<W, G, float>& t, int64_t begin, int64_t end,
                const AdamWFactors& factors) {
  step_elements(t, begin, end - begin, t.exp_avg + begin, t.exp_avg_sq + begin, factors);
}

template <class W, class G>
void step_chunk(const cuda::AdamWTensor<W, G, uint8_t>& t, int64_t begin, int64_t end,
                const AdamWFactors& factors) {
  float m[kCodeBlock], v[kCodeBlock];
  for (int64_t i = begin; i < end; i += kCodeBlock) {
    const int64_t n = std::min<int64_t>(kCodeBlock, end - i);
    float &scale = t.exp_avg_scale[i / kCodeBlock],
          &root_scale = t.exp_avg_sq_scale[i / kCodeBlock];
    decode_block(m, v, t.exp_avg + i, t.exp_avg_sq + i, n, scale, root_scale);
    step_elements(t, i, n, m, v, factors);
    scale = largest(m, n);
    root_scale = sqrtf(largest(v, n));
    encode_block(t.exp_avg + i, t.exp_avg_sq + i, m, v, n, cuda::inverse_scale(scale),
                 cuda::inverse_scale(root_scale));
  }
}

constexpr int64_t kChunk = 1 << 14;  // elements of a task, whole blocks of codes

template <class W, class G, class M>
void step_all(const std::vector<cuda::AdamWTensor<W, G, M>>& tensors, const cuda::AdamWStep& step) {
  struct Chunk {
    size_t tensor;
    int64_t begin;
  };
  std::vector<Chunk> chunks;
  std::vector<AdamWFactors> factors;
  for (const auto& t : tensors) {
    factors.push_back(cuda::adamw_factors(step.settings, *step.lr,
                                          step.clip != nullptr ? *step.clip : 1.0f, t.weight_decay,
                                          *t.step));
    for (int64_t i = 0; i < t.n; i += kChunk) chunks.push_back({factors.size() - 1, i});
  }
  const auto count = static_cast<int64_t>(chunks.size());
  at::parallel_for(0, count, /*grain_size=*/1, [&](int64_t first, int64_t last) {
    for (int64_t c = first; c < last; ++c) {
      const auto& t = tensors[chunks[c].tensor];
      const int64_t begin = chunks[c].begin;
      step_chunk(t, begin, std::min(begin + kChunk, t.n), factors[chunks[c].tensor]);
    }
  });
}

// ---- the operator ----

bool is_float(const Tensor& t) { return is_kernel_float(t.scalar_type()); }

bool is_number(const Tensor& t, at::ScalarType dtype, at::Device device) {
  return t.scalar_type() == dtype && t.numel() == 1 && t.device() == device;
}

void check_like_weight(const char* name, const Tensor& t, const Tensor& weight) {
  TORCH_CHECK(t.sizes() == weight.sizes() && t.device() == weight.device(), "adamw_: a weight is ",
              weight.sizes(), " on ", weight.device(), ", but its ", name, " is ", t.sizes(),
              " on ", t.device());
  TORCH_CHECK((weight.is_contiguous() && t.is_contiguous()) ||
                  (weight.is_non_overlapping_and_dense() && t.strides() == weight.strides()),
              "adamw_: a weight has strides ", weight.strides(), " but its ", name, " ",
              t.strides(), ", expected the same, without gaps");
}

void check_tensor(const AdamWTensor& t, at::Device device) {
  const Tensor& w = t.weight;
  TORCH_CHECK(is_float(w), "adamw_: weights must be float32 or bfloat16, got ", w.scalar_type());
  TORCH_CHECK(w.device() == device, "adamw_: a weight is on ", w.device(), ", another on ", device);
  check_like_weight("gradient", t.grad, w);
  check_like_weight("exp_avg", t.exp_avg, w);
  check_like_weight("exp_avg_sq", t.exp_avg_sq, w);
  TORCH_CHECK(is_float(t.grad), "adamw_: gradients must be float32 or bfloat16, got ",
              t.grad.scalar_type());
  const at::ScalarType moments = t.exp_avg.scalar_type();
  TORCH_CHECK(
      (moments == at::kFloat || moments == at::kByte) && t.exp_avg_sq.scalar_type() == moments,
      "adamw_: moments must both be float32 or uint8, got ", moments, " and ",
      t.exp_avg_sq.scalar_type());
  const int64_t scales = (w.numel() + kCodeBlock - 1) / kCodeBlock;
  for (const Tensor& scale : {t.exp_avg_scale, t.exp_avg_sq_scale}) {
    TORCH_CHECK(scale.defined() == (moments == at::kByte),
                "adamw_: moments have scales where they are uint8, and only there");
    TORCH_CHECK(!scale.defined() || (scale.scalar_type() == at::kFloat && scale.is_contiguous() &&
                                     scale.numel() == scales && scale.device() == device),
                "adamw_: scales must be ", scales, " contiguous float32 on ", device);
  }
  TORCH_CHECK(is_number(t.step, at::kFloat, device),
              "adamw_: a count of steps must be one float32 on ", device);
  if (!t.master.defined()) return;
  check_like_weight("master copy", t.master, w);
  TORCH_CHECK(t.master.scalar_type() == at::kFloat && w.scalar_type() == at::kBFloat16,
              "adamw_: master copies are float32, of bfloat16 weights, got ",
              t.master.scalar_type(), " of ", w.scalar_type());
}

void check(const std::vector<AdamWTensor>& tensors, const AdamWStep& step, at::Device device) {
  check_type_of_device("adamw_", device);
  for (const AdamWTensor& t : tensors) check_tensor(t, device);
  TORCH_CHECK(step.lr.defined() && is_number(step.lr, at::kFloat, device),
              "adamw_: lr must be one float32 on ", device);
  TORCH_CHECK(!step.clip.defined() || is_number(step.clip, at::kFloat, device),
              "adamw_: the clip factor must be one float32 on ", device);
  TORCH_CHECK(!step.skip.defined() || is_number(step.skip, at::kInt, device),
              "adamw_: the skip flag must be one int32 on ", device);
}

// One that two weights share would be counted up twice, or by two threads at a time.
void check_distinct(std::vector<float*> steps) {
  std::sort(steps.begin(), steps.end());
  TORCH_CHECK(std::adjacent_find(steps.begin(), steps.end()) == steps.end(),
              "adamw_: two weights share a count of steps, expected one of each");
}

template <class T>
constexpr at::ScalarType kDtype = at::kFloat;
template <>
constexpr at::ScalarType kDtype<BFloat16> = at::kBFloat16;
template <>
constexpr at::ScalarType kDtype<uint8_t> = at::kByte;

// run(list) with those of the tensors that have these types.
template <class W, class G, class M, class Run>
void with_types(const std::vector<AdamWTensor>& tensors, const Run& run) {
  std::vector<cuda::AdamWTensor<W, G, M>> list;
  for (const AdamWTensor& t : tensors) {
    if (t.weight.scalar_type() != kDtype<W> || t.grad.scalar_type() != kDtype<G> ||
        t.exp_avg.scalar_type() != kDtype<M>) {
      continue;
    }
    list.push_back({pointer_or_null<W>(t.weight), static_cast<const G*>(t.grad.const_data_ptr()),
                    pointer_or_null<M>(t.exp_avg), pointer_or_null<M>(t.exp_avg_sq),
                    pointer_or_null<float>(t.exp_avg_scale),
                    pointer_or_null<float>(t.exp_avg_sq_scale), pointer_or_null<float>(t.master),
                    t.step.const_data_ptr<float>(), t.weight.numel(),
                    static_cast<float>(t.weight_decay)});
  }
  if (!list.empty()) run(list);
}

template <class Run>
void with_all_types(const std::vector<AdamWTensor>& tensors, const Run& run) {
  with_types<float, float, float>(tensors, run);
  with_types<float, BFloat16, float>(tensors, run);
  with_types<BFloat16, float, float>(tensors, run);
  with_types<BFloat16, BFloat16, float>(tensors, run);
  with_types<float, float, uint8_t>(tensors, run);
  with_types<float, BFloat16, uint8_t>(tensors, run);
  with_types<BFloat16, float, uint8_t>(tensors, run);
  with_types<BFloat16, BFloat16, uint8_t>(tensors, run);
}

cuda::AdamWSettings settings_of(const AdamWStep& step) {
  return {static_cast<float>(step.beta1), static_cast<float>(1 - step.beta1),
          static_cast<float>(step.beta2), static_cast<float>(1 - step.beta2),
          static_cast<float>(step.eps)};
}

}  // namespace

void adamw_(const std::vector<AdamWTensor>& tensors, const AdamWStep& step) {
  if (tensors.empty()) return;
  const Tensor& first = tensors.front().weight;
  check(tensors, step, first.device());
  const cuda::AdamWStep pointers{settings_of(step), step.lr.const_data_ptr<float>(),
                                 pointer_or_null<const float>(step.clip),
                                 pointer_or_null<const int32_t>(step.skip)};
  std::vector<float*> steps;
  for (const AdamWTensor& t : tensors) steps.push_back(t.step.mutable_data_ptr<float>());
  check_distinct(steps);

  // What autograd asks to find that a tensor was changed after a graph kept it.
  for (const AdamWTensor& t : tensors) t.weight.unsafeGetTensorImpl()->bump_version();

  const auto launch = [&](auto stream) {
    cuda::launch_count_steps(steps.data(), static_cast<int64_t>(steps.size()), pointers.skip,
                             stream);
    with_all_types(tensors, [&](const auto& list) {
      cuda::launch_adamw(list.data(), static_cast<int64_t>(list.size()), pointers, stream);
    });
  };
  if (on_device("adamw_", first, launch)) return;
  if (pointers.skip != nullptr && *pointers.skip != 0) return;
  for (float* count : steps) *count += 1.0f;
  with_all_types(tensors, [&](const auto& list) { step_all(list, pointers); });
}

}  // namespace rev::kernels
