#include "rev/kernels/activation.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <algorithm>
#include <vector>

#include "cuda/activation.h"
#include "cuda/activation_math.h"
#include "cuda/slices_math.h"
#include "kernels/device.h"
#include "kernels/row_width.h"
#include "kernels/rows.h"
#include "kernels/slices.h"
#include "kernels/vectors.h"
#include "rev/kernels/dtype.h"

namespace rev::kernels {
namespace {

using at::Tensor;
using cuda::kSliceRows;
using cuda::Rows;
using cuda::slices_of;

// ---- loops over a row; biases and what is not wanted are null ----

template <bool kBias, class T>
REV_VECTOR_WIDTHS void gelu_row(T* __restrict y, const T* __restrict x,
                                const float* __restrict bias, int64_t n) {
  for (int64_t j = 0; j < n; ++j) {
    const float value = cuda::widen(x[j]);
    y[j] = cuda::narrow<T>(cuda::gelu(kBias ? value + bias[j] : value).value);
  }
}

// dx may be dy; `sum` gains the gradients.
template <bool kBias, bool kValue, class T>
REV_VECTOR_WIDTHS void gelu_backward_row(T* dx, T* __restrict y, float* __restrict sum, const T* dy,
                                         const T* __restrict x, const float* __restrict bias,
                                         int64_t n) {
#pragma GCC ivdep  // dx[j] is written after dy[j] is read
  for (int64_t j = 0; j < n; ++j) {
    const float value = cuda::widen(x[j]);
    const cuda::Activation f = cuda::gelu(kBias ? value + bias[j] : value);
    const float gradient = cuda::widen(dy[j]) * f.slope;
    dx[j] = cuda::narrow<T>(gradient);
    sum[j] += gradient;
    if (kValue) y[j] = cuda::narrow<T>(f.value);
  }
}

template <bool kBias, class T>
REV_VECTOR_WIDTHS void swiglu_row(T* __restrict y, const T* __restrict gate, const T* __restrict up,
                                  const float* __restrict gate_bias,
                                  const float* __restrict up_bias, int64_t n) {
  for (int64_t j = 0; j < n; ++j) {
    const float g = cuda::widen(gate[j]), u = cuda::widen(up[j]);
    y[j] = cuda::narrow<T>(kBias ? cuda::swiglu(g + gate_bias[j], u + up_bias[j])
                                 : cuda::swiglu(g, u));
  }
}

// A row of what swiglu's backward writes; the sums gain the gradients.
template <class T>
struct SwigluRow {
  T* gate;
  T* up;
  T* value;
  float* gate_sum;
  float* up_sum;
};

template <bool kBias, bool kValue, class T>
REV_VECTOR_WIDTHS void swiglu_backward_row(const SwigluRow<T>& to, const T* __restrict dy,
                                           const T* __restrict gate, const T* __restrict up,
                                           const float* __restrict gate_bias,
                                           const float* __restrict up_bias, int64_t n) {
  T* __restrict dgate = to.gate, * __restrict dup = to.up, * __restrict y = to.value;
  float* __restrict gate_sum = to.gate_sum, * __restrict up_sum = to.up_sum;
  for (int64_t j = 0; j < n; ++j) {
    const float g = cuda::widen(gate[j]), u = cuda::widen(up[j]);
    const cuda::Swiglu f =
        kBias ? cuda::swiglu_backward(cuda::widen(dy[j]), g + gate_bias[j], u + up_bias[j])
              : cuda::swiglu_backward(cuda::widen(dy[j]), g, u);
    dgate[j] = cuda::narrow<T>(f.gate);
    dup[j] = cuda::narrow<T>(f.up);
    gate_sum[j] += f.gate;
    up_sum[j] += f.up;
    if (kValue) y[j] = cuda::narrow<T>(f.value);
  }
}

// ---- rows, shared out ----

// Rows of n that are worth a thread: an activation is worth several additions.
int64_t grain_of(int64_t n) { return std::max<int64_t>(1, kGrain / 4 / std::max<int64_t>(1, n)); }

template <class Body>
void for_rows(Rows size, const Body& body) {
  at::parallel_for(0, size.rows, grain_of(size.width), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) body(row);
  });
}

// body(row, sums) for each row; sums: kBiases rows of n, 0 before a slice's first row. After its
// last one keep(slice, sums).
template <int kBiases, class Body, class Keep>
void for_slices(Rows size, const Body& body, const Keep& keep) {
  const int64_t grain = (grain_of(size.width) + kSliceRows - 1) / kSliceRows;
  at::parallel_for(0, slices_of(size.rows), grain, [&](int64_t begin, int64_t end) {
    std::vector<float> sums(kBiases * size.width);
    for (int64_t slice = begin; slice < end; ++slice) {
      std::fill(sums.begin(), sums.end(), 0.0f);
      const int64_t first = slice * kSliceRows;
      for (int64_t row = first; row < std::min(first + kSliceRows, size.rows); ++row) {
        body(row, sums.data());
      }
      keep(slice, sums.data());
    }
  });
}

template <class T>
void gelu_rows(T* y, const T* x, const float* bias, Rows size) {
  const int64_t n = size.width;
  const auto forward = bias != nullptr ? gelu_row<true, T> : gelu_row<false, T>;
  for_rows(size, [&](int64_t row) { forward(y + row * n, x + row * n, bias, n); });
}

template <class T>
void gelu_backward_rows(const cuda::GeluGradients<T>& to, const T* dy, const T* x,
                        const float* bias, Rows size) {
  const int64_t n = size.width;
  const bool biased = bias != nullptr, value = to.value != nullptr;
  const auto with_bias =
      value ? gelu_backward_row<true, true, T> : gelu_backward_row<true, false, T>;
  const auto without =
      value ? gelu_backward_row<false, true, T> : gelu_backward_row<false, false, T>;
  const auto backward = biased ? with_bias : without;
  for_slices<1>(
      size,
      [&](int64_t row, float* sum) {
        backward(to.x + row * n, value ? to.value + row * n : nullptr, sum, dy + row * n,
                 x + row * n, bias, n);
      },
      [&](int64_t slice, const float* sum) {
        if (to.sums != nullptr) std::copy_n(sum, n, to.sums + slice * n);
      });
}

template <class T>
void swiglu_rows(T* y, const cuda::SwigluInputs<T>& from, Rows size) {
  const int64_t n = size.width;
  const auto forward = from.gate_bias != nullptr ? swiglu_row<true, T> : swiglu_row<false, T>;
  for_rows(size, [&](int64_t row) {
    forward(y + row * n, from.gate + row * from.stride, from.up + row * from.stride, from.gate_bias,
            from.up_bias, n);
  });
}

template <class T>
void swiglu_backward_rows(const cuda::SwigluGradients<T>& to, const T* dy,
                          const cuda::SwigluInputs<T>& from, Rows size) {
  const int64_t n = size.width;
  const bool biased = from.gate_bias != nullptr, value = to.value != nullptr;
  const auto with_bias =
      value ? swiglu_backward_row<true, true, T> : swiglu_backward_row<true, false, T>;
  const auto without =
      value ? swiglu_backward_row<false, true, T> : swiglu_backward_row<false, false, T>;
  const auto backward = biased ? with_bias : without;
  for_slices<2>(
      size,
      [&](int64_t row, float* sums) {
        backward({to.gate + row * to.stride, to.up + row * to.stride,
                  value ? to.value + row * n : nullptr, sums, sums + n},
                 dy + row * n, from.gate + row * from.stride, from.up + row * from.stride,
                 from.gate_bias, from.up_bias, n);
      },
      [&](int64_t slice, const float* sums) {
        if (to.gate_sums != nullptr) std::copy_n(sums, n, to.gate_sums + slice * n);
        if (to.up_sums != nullptr) std::copy_n(sums + n, n, to.up_sums + slice * n);
      });
}

// ---- the operators ----

void check_input(const char* op, const char* name, const Tensor& x) {
  check_type_of_device(op, x.device());
  TORCH_CHECK(is_kernel_float(x.scalar_type()), op, ": ", name,
              " must be float32 or bfloat16, got ", x.scalar_type());
  TORCH_CHECK(x.dim() >= 1, op, ": ", name, " is ", x.sizes(), ", expected [..,F]");
  check_row_width(op, name, x.size(-1));
}

void check_like(const char* op, const char* name, const Tensor& t, const char* like,
                const Tensor& x) {
  TORCH_CHECK(
      t.sizes() == x.sizes() && t.scalar_type() == x.scalar_type() && t.device() == x.device(), op,
      ": ", like, " is ", x.scalar_type(), " ", x.sizes(), " on ", x.device(), ", but ", name,
      " is ", t.scalar_type(), " ", t.sizes(), " on ", t.device());
}

// The bias as kernels read it, float32; undefined: none.
Tensor bias_for(const char* op, const Tensor& bias, const Tensor& x) {
  if (!bias.defined()) return {};
  TORCH_CHECK(bias.dim() == 1 && bias.size(0) == x.size(-1) && bias.device() == x.device() &&
                  (bias.scalar_type() == at::kFloat || bias.scalar_type() == x.scalar_type()),
              op, ": a bias is ", bias.scalar_type(), " ", bias.sizes(), " on ", bias.device(),
              ", expected float32 or ", x.scalar_type(), " [", x.size(-1), "] on ", x.device());
  return bias.to(at::kFloat).contiguous();
}

// Memory for slices' sums; undefined where they are not wanted.
Tensor memory_for_sums(const Tensor& x, bool wanted) {
  if (!wanted) return {};
  const Rows size = rows_of(x);
  return at::empty({slices_of(size.rows), size.width}, x.options().dtype(at::kFloat));
}

// Their sum, in the bias' dtype.
Tensor sum_of(const char* op, const Tensor& sums, const Tensor& bias, Rows size) {
  if (!sums.defined()) return {};
  const Tensor total = at::empty({size.width}, sums.options());
  auto* to = total.mutable_data_ptr<float>();
  const auto* from = sums.const_data_ptr<float>();
  const auto launch = [&](auto stream) {
    cuda::launch_add_slices(to, from, sums.size(0), size.width, stream);
  };
  if (!on_device(op, sums, launch)) add_slices(to, from, sums.size(0), size.width);
  return bias.defined() ? total.to(bias.scalar_type()) : total;
}

// t as [rows, F] with contiguous rows: a view where it has them, else a copy.
Tensor as_rows(const Tensor& t) {
  const Rows size = rows_of(t);
  const Tensor rows = t.reshape({size.rows, size.width});
  return rows.stride(1) == 1 || size.width == 1 ? rows : rows.contiguous();
}

// gate and up as rows with one stride, and both biases or none.
struct SwigluRows {
  Tensor gate, up, gate_bias, up_bias;

  template <class T>
  cuda::SwigluInputs<T> pointers() const {
    return {static_cast<const T*>(gate.const_data_ptr()),
            static_cast<const T*>(up.const_data_ptr()), gate.stride(0),
            pointer_or_null<const float>(gate_bias), pointer_or_null<const float>(up_bias)};
  }
};

SwigluRows swiglu_inputs(const char* op, const Tensor& gate, const Tensor& up,
                         const Tensor& gate_bias, const Tensor& up_bias) {
  check_input(op, "gate", gate);
  check_like(op, "up", up, "gate", gate);
  SwigluRows rows{as_rows(gate), as_rows(up), bias_for(op, gate_bias, gate),
                  bias_for(op, up_bias, gate)};
  if (rows.gate.stride(0) != rows.up.stride(0)) {
    rows.gate = rows.gate.contiguous();
    rows.up = rows.up.contiguous();
  }
  const bool one = gate_bias.defined() != up_bias.defined();
  Tensor& missing = gate_bias.defined() ? rows.up_bias : rows.gate_bias;
  if (one) missing = at::zeros({gate.size(-1)}, gate.options().dtype(at::kFloat));
  return rows;
}

}  // namespace

Tensor bias_gelu(const Tensor& x, const Tensor& bias) {
  check_input("bias_gelu", "x", x);
  const Tensor from = x.contiguous(), b = bias_for("bias_gelu", bias, x);
  const auto* added = pointer_or_null<const float>(b);
  Tensor y = at::empty(x.sizes(), from.options());
  with_float(from, [&](const auto* in) {
    using T = std::remove_const_t<std::remove_pointer_t<decltype(in)>>;
    auto* to = pointer_or_null<T>(y);
    const auto launch = [&](auto stream) {
      cuda::launch_gelu(to, in, added, rows_of(from), stream);
    };
    if (!on_device("bias_gelu", from, launch)) gelu_rows(to, in, added, rows_of(from));
  });
  return y;
}

GeluGradients bias_gelu_backward(const Tensor& dy, const Tensor& x, const Tensor& bias,
                                 const ActivationWants& wants) {
  constexpr auto kOp = "bias_gelu_backward";
  check_input(kOp, "x", x);
  check_like(kOp, "dy", dy, "x", x);
  TORCH_CHECK(!wants.reuse || dy.is_contiguous(), kOp, ": dy is to be reused and has strides ",
              dy.strides(), ", expected it contiguous");
  const Tensor from = x.contiguous(), g = dy.contiguous(), b = bias_for(kOp, bias, x);
  const auto* added = pointer_or_null<const float>(b);
  const Rows size = rows_of(from);
  GeluGradients out{wants.reuse ? dy : at::empty(x.sizes(), g.options()), {}, {}};
  if (wants.value) out.value = at::empty(x.sizes(), g.options());
  const Tensor sums = memory_for_sums(from, wants.bias);
  with_float(from, [&](const auto* in) {
    using T = std::remove_const_t<std::remove_pointer_t<decltype(in)>>;
    const cuda::GeluGradients<T> to{pointer_or_null<T>(out.x), pointer_or_null<T>(out.value),
                                    pointer_or_null<float>(sums)};
    const auto* gradient = static_cast<const T*>(g.const_data_ptr());
    const auto launch = [&](auto stream) {
      cuda::launch_gelu_backward(to, gradient, in, added, size, stream);
    };
    if (!on_device(kOp, from, launch)) gelu_backward_rows(to, gradient, in, added, size);
  });
  out.bias = sum_of(kOp, sums, bias, size);
  return out;
}

Tensor swiglu(const Tensor& gate, const Tensor& up, const Tensor& gate_bias,
              const Tensor& up_bias) {
  const SwigluRows rows = swiglu_inputs("swiglu", gate, up, gate_bias, up_bias);
  Tensor y = at::empty(gate.sizes(), gate.options());
  with_float(gate, [&](const auto* gates) {
    using T = std::remove_const_t<std::remove_pointer_t<decltype(gates)>>;
    auto* to = pointer_or_null<T>(y);
    const auto from = rows.pointers<T>();
    const auto launch = [&](auto stream) { cuda::launch_swiglu(to, from, rows_of(y), stream); };
    if (!on_device("swiglu", y, launch)) swiglu_rows(to, from, rows_of(y));
  });
  return y;
}

SwigluGradients swiglu_backward(const Tensor& dy, const Tensor& gate, const Tensor& up,
                                const Tensor& gate_bias, const Tensor& up_bias,
                                const ActivationWants& wants) {
  constexpr auto kOp = "swiglu_backward";
  const SwigluRows rows = swiglu_inputs(kOp, gate, up, gate_bias, up_bias);
  check_like(kOp, "dy", dy, "gate", gate);
  const Tensor g = dy.contiguous();
  const Rows size = rows_of(g);
  std::vector<int64_t> sizes = gate.sizes().vec();
  sizes.back() = 2 * size.width;
  SwigluGradients out;
  out.both = at::empty(sizes, g.options());
  out.gate = out.both.narrow(-1, 0, size.width);
  out.up = out.both.narrow(-1, size.width, size.width);
  if (wants.value) out.value = at::empty(gate.sizes(), g.options());
  const Tensor gate_sums = memory_for_sums(g, wants.bias), up_sums = memory_for_sums(g, wants.bias);
  with_float(g, [&](const auto* gradient) {
    using T = std::remove_const_t<std::remove_pointer_t<decltype(gradient)>>;
    const cuda::SwigluGradients<T> to{pointer_or_null<T>(out.gate),
                                      pointer_or_null<T>(out.up),
                                      2 * size.width,
                                      pointer_or_null<T>(out.value),
                                      pointer_or_null<float>(gate_sums),
                                      pointer_or_null<float>(up_sums)};
    const auto from = rows.pointers<T>();
    const auto launch = [&](auto stream) {
      cuda::launch_swiglu_backward(to, gradient, from, size, stream);
    };
    if (!on_device(kOp, g, launch)) swiglu_backward_rows(to, gradient, from, size);
  });
  out.gate_bias = sum_of(kOp, gate_sums, gate_bias, size);
  out.up_bias = sum_of(kOp, up_sums, up_bias, size);
  return out;
}

}  // namespace rev::kernels
