#include "rev/kernels/norm.h"

#include <ATen/MemoryOverlap.h>
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <algorithm>
#include <utility>
#include <vector>

#include "cuda/grid_math.h"
#include "cuda/norm.h"
#include "cuda/norm_math.h"
#include "cuda/slices_math.h"
#include "cuda/update_norm.h"
#include "kernels/device.h"
#include "kernels/row_sum.h"
#include "kernels/row_width.h"
#include "kernels/rows.h"
#include "kernels/slices.h"
#include "kernels/vectors.h"
#include "rev/kernels/dtype.h"

namespace rev::kernels {
namespace {

using at::Tensor;
using cuda::BFloat16;

struct Moments {
  float mean, rstd;
};

REV_VECTOR_WIDTHS void widen_row(float* __restrict to, const BFloat16* __restrict from, int64_t n) {
  for (int64_t j = 0; j < n; ++j) to[j] = cuda::widen(from[j]);
}

REV_VECTOR_WIDTHS void narrow_row(BFloat16* __restrict to, const float* __restrict from,
                                  int64_t n) {
  for (int64_t j = 0; j < n; ++j) to[j] = cuda::narrow<BFloat16>(from[j]);
}

// A row as float32: as it is, or in `scratch`.
const float* as_floats(const float* row, std::vector<float>&, int64_t) { return row; }
const float* as_floats(const BFloat16* row, std::vector<float>& scratch, int64_t n) {
  scratch.resize(static_cast<size_t>(n));
  widen_row(scratch.data(), row, n);
  return scratch.data();
}

REV_VECTOR_WIDTHS Moments moments_of_row(const float* x, bool centred, float eps, float inverse,
                                         int64_t n) {
  const float mean =
      centred ? row_sum(n, [=](auto j) REV_INLINE_LAMBDA { return at(x, j); }) * inverse : 0.0f;
  const float squares = row_sum(n, [=](auto j) REV_INLINE_LAMBDA {
    const auto d = at(x, j) - mean;
    return d * d;
  });
  return {mean, cuda::norm_scale(squares * inverse, eps)};
}

template <class Y>
REV_VECTOR_WIDTHS void norm_row(Y* __restrict y, const float* __restrict x,
                                const float* __restrict weight, const float* __restrict bias,
                                float mean, float rstd, int64_t n) {
  if (bias == nullptr) {
    for (int64_t j = 0; j < n; ++j) y[j] = cuda::narrow<Y>((x[j] - mean) * rstd * weight[j]);
    return;
  }
  for (int64_t j = 0; j < n; ++j) {
    y[j] = cuda::narrow<Y>((x[j] - mean) * rstd * weight[j] + bias[j]);
  }
}

// A row's d and n, and its terms added to dweight and dbias where these are not null.
template <class X, class G>
REV_VECTOR_WIDTHS void start_row(float* __restrict d, float* __restrict normed,
                                 float* __restrict dweight, float* __restrict dbias,
                                 const G* __restrict dy, const X* __restrict x,
                                 const float* __restrict weight, float mean, float rstd,
                                 int64_t n) {
  if (dweight != nullptr && dbias != nullptr) {
    for (int64_t j = 0; j < n; ++j) {
      const float g = cuda::widen(dy[j]);
      d[j] = g * weight[j];
      normed[j] = (cuda::widen(x[j]) - mean) * rstd;
      dweight[j] += g * normed[j];
      dbias[j] += g;
    }
    return;
  }
  for (int64_t j = 0; j < n; ++j) {
    d[j] = cuda::widen(dy[j]) * weight[j];
    normed[j] = (cuda::widen(x[j]) - mean) * rstd;
  }
  if (dweight != nullptr) {
    for (int64_t j = 0; j < n; ++j) dweight[j] += cuda::widen(dy[j]) * normed[j];
  }
  if (dbias != nullptr) {
    for (int64_t j = 0; j < n; ++j) dbias[j] += cuda::widen(dy[j]);
  }
}

struct Means {
  float d, dn;
};

REV_VECTOR_WIDTHS Means means_of_row(const float* d, const float* normed, bool centred,
                                     float inverse, int64_t n) {
  const float mean_d =
      centred ? row_sum(n, [=](auto j) REV_INLINE_LAMBDA { return at(d, j); }) * inverse : 0.0f;
  return {mean_d,
          row_sum(n, [=](auto j) REV_INLINE_LAMBDA { return at(d, j) * at(normed, j); }) * inverse};
}

// dx, or dx added to what is there.
template <class X>
REV_VECTOR_WIDTHS void gradient_row(X* __restrict dx, bool add, const float* __restrict d,
                                    const float* __restrict normed, Means means, float rstd,
                                    int64_t n) {
  if (add) {
    for (int64_t j = 0; j < n; ++j) {
      const float g = cuda::norm_gradient(d[j], normed[j], means.d, means.dn, rstd);
      dx[j] = cuda::narrow<X>(cuda::widen(dx[j]) + g);
    }
    return;
  }
  for (int64_t j = 0; j < n; ++j) {
    dx[j] = cuda::narrow<X>(cuda::norm_gradient(d[j], normed[j], means.d, means.dn, rstd));
  }
}

// The residual is where x's gradient goes.
template <class X, class G>
void backward_on_cpu(const cuda::NormGradients<X>& gradients, const G* dy,
                     const cuda::NormInputs<X>& inputs, cuda::Rows size) {
  const int64_t n = size.width, slices = cuda::slices_of(size.rows);
  const bool centred = inputs.mean != nullptr;
  const float inverse = cuda::inverse_width(n);
  float* const weight_parts = gradients.weight != nullptr ? gradients.scratch : nullptr;
  float* const bias_parts = gradients.bias != nullptr ? gradients.scratch + slices * n : nullptr;
  const auto grain = std::max<int64_t>(1, grain_of_rows(n) / cuda::kSliceRows);
  at::parallel_for(0, slices, grain, [&](int64_t begin, int64_t end) {
    std::vector<float> d(static_cast<size_t>(n)), normed(static_cast<size_t>(n));
    for (int64_t slice = begin; slice < end; ++slice) {
      float* const dweight = weight_parts != nullptr ? weight_parts + slice * n : nullptr;
      float* const dbias = bias_parts != nullptr ? bias_parts + slice * n : nullptr;
      if (dweight != nullptr) std::fill(dweight, dweight + n, 0.0f);
      if (dbias != nullptr) std::fill(dbias, dbias + n, 0.0f);
      const int64_t last = std::min(size.rows, (slice + 1) * cuda::kSliceRows);
      for (int64_t row = slice * cuda::kSliceRows; row < last; ++row) {
        const float mean = centred ? inputs.mean[row] : 0.0f, rstd = inputs.rstd[row];
        start_row(d.data(), normed.data(), dweight, dbias, dy + row * n, inputs.x + row * n,
                  inputs.weight, mean, rstd, n);
        if (gradients.x == nullptr) continue;
        const Means means = means_of_row(d.data(), normed.data(), centred, inverse, n);
        gradient_row(gradients.x + row * n, gradients.residual != nullptr, d.data(), normed.data(),
                     means, rstd, n);
      }
    }
  });
  if (gradients.weight != nullptr) add_slices(gradients.weight, weight_parts, slices, n);
  if (gradients.bias != nullptr) add_slices(gradients.bias, bias_parts, slices, n);
}

// A row of the new state, and its value.
REV_VECTOR_WIDTHS uint32_t update_row(int32_t* __restrict y, float* __restrict value,
                                      const float* f, int64_t n, float scale, float unit) {
  uint32_t out = 0;
  for (int64_t j = 0; j < n; ++j) {
    y[j] = grid::update(y[j], f[j], scale, out);
    value[j] = static_cast<float>(y[j]) * unit;
  }
  return out;
}

REV_VECTOR_WIDTHS uint32_t reflect_row(int32_t* __restrict y, float* __restrict value,
                                       const int32_t* x, const float* f, int64_t n, float scale,
                                       float unit) {
  uint32_t out = 0;
  for (int64_t j = 0; j < n; ++j) {
    y[j] = grid::reflect(y[j], x[j], f[j], scale, out);
    value[j] = static_cast<float>(y[j]) * unit;
  }
  return out;
}

REV_VECTOR_WIDTHS uint32_t blend_row(int32_t* __restrict y, float* __restrict value,
                                     const int32_t* x, float b, const float* f, int64_t n,
                                     float scale, float unit) {
  uint32_t out = 0;
  for (int64_t j = 0; j < n; ++j) {
    y[j] = grid::blend(y[j], x[j], b, f[j], scale, out);
    value[j] = static_cast<float>(y[j]) * unit;
  }
  return out;
}

void check_float(const char* op, const char* name, at::ScalarType dtype) {
  TORCH_CHECK(is_kernel_float(dtype), op, ": ", name, " must be float32 or bfloat16, got ", dtype);
}

// weight or bias, for rows like those of x.
void check_parameter(const char* op, const char* name, const Tensor& p, const Tensor& x) {
  TORCH_CHECK(p.defined(), op, ": ", name, " is undefined");
  TORCH_CHECK(p.dim() == 1 && x.dim() >= 1 && p.size(0) == x.size(-1) && p.size(0) > 0, op,
              ": x is ", x.sizes(), " but ", name, " ", p.sizes(), ", expected [..,C] and [C]");
  TORCH_CHECK(p.scalar_type() == at::kFloat && p.device() == x.device(), op, ": ", name,
              " must be float32 on ", x.device(), ", got ", p.scalar_type(), " on ", p.device());
  check_row_width(op, "x", p.size(0));
}

void check_moment(const char* op, const char* name, const Tensor& m, const Tensor& x) {
  TORCH_CHECK(
      m.scalar_type() == at::kFloat && m.numel() == row_count(x) && m.device() == x.device(), op,
      ": ", name, " must be float32 of ", row_count(x), " elements on ", x.device(), ", got ",
      m.sizes(), " of ", m.scalar_type(), " on ", m.device());
}

// A norm's parameters as kernels take them, and what holds their memory.
struct Parameters {
  Tensor weight, bias;
  cuda::Norm norm;

  Parameters(const char* op, const Tensor& x, const Tensor& w, const Tensor& b, double eps,
             NormKind kind) {
    check_parameter(op, "weight", w, x);
    if (b.defined()) check_parameter(op, "bias", b, x);
    weight = w.contiguous();
    bias = b.defined() ? b.contiguous() : b;
    norm = {weight.const_data_ptr<float>(), pointer_or_null<const float>(bias),
            static_cast<float>(eps), kind == NormKind::Layer};
  }
};

Normed new_norm(const Tensor& x, NormKind kind, at::ScalarType dtype) {
  const auto floats = x.options().dtype(at::kFloat).requires_grad(false);
  const int64_t rows = row_count(x);
  return {at::empty(x.sizes(), floats.dtype(dtype)),
          kind == NormKind::Layer ? at::empty({rows}, floats) : Tensor(),
          at::empty({rows}, floats)};
}

cuda::Floats floats_of(const Tensor& t) {
  cuda::Floats to;
  if (t.defined() && t.scalar_type() == at::kFloat) to.as_float = t.mutable_data_ptr<float>();
  if (t.defined() && t.scalar_type() == at::kBFloat16) {
    to.as_bfloat16 = static_cast<BFloat16*>(t.mutable_data_ptr());
  }
  return to;
}

cuda::Moments moments_of(const Normed& n) {
  return {pointer_or_null<float>(n.mean), pointer_or_null<float>(n.rstd)};
}

// One row on the CPU, to row `row` of what is to be written.
void write_norm_row(const cuda::Floats& y, const cuda::Moments& to, int64_t row, const float* x,
                    const cuda::Norm& norm, float inverse, int64_t n) {
  const auto [mean, rstd] = moments_of_row(x, norm.centred, norm.eps, inverse, n);
  if (y.as_float != nullptr) {
    norm_row(y.as_float + row * n, x, norm.weight, norm.bias, mean, rstd, n);
  } else {
    norm_row(y.as_bfloat16 + row * n, x, norm.weight, norm.bias, mean, rstd, n);
  }
  if (to.mean != nullptr) to.mean[row] = mean;
  to.rstd[row] = rstd;
}

Normed norm(const char* op, const Tensor& given, const Tensor& weight, const Tensor& bias,
            double eps, NormKind kind, at::ScalarType dtype) {
  check_type_of_device(op, given.device());
  check_float(op, "x", given.scalar_type());
  check_float(op, "the result", dtype);
  const Parameters parameters(op, given, weight, bias, eps, kind);
  const Tensor x = given.contiguous();
  const Normed result = new_norm(x, kind, dtype);
  const cuda::Floats y = floats_of(result.y);
  const cuda::Moments moments = moments_of(result);
  const cuda::Rows size = rows_of(x);
  with_float(x, [&](const auto* from) {
    const auto launch = [&](auto stream) {
      cuda::launch_norm(y, moments, from, parameters.norm, size, stream);
    };
    if (on_device(op, x, launch)) return;
    const float inverse = cuda::inverse_width(size.width);
    at::parallel_for(0, size.rows, grain_of_rows(size.width), [&](int64_t begin, int64_t end) {
      std::vector<float> scratch;
      for (int64_t row = begin; row < end; ++row) {
        const float* const floats = as_floats(from + row * size.width, scratch, size.width);
        write_norm_row(y, moments, row, floats, parameters.norm, inverse, size.width);
      }
    });
  });
  return result;
}

NormGradients norm_backward(const char* op, const Tensor& given_grad, const Tensor& given_x,
                            const Tensor& given_weight, const Tensor& given_mean,
                            const Tensor& given_rstd, const NormGradientOptions& options) {
  check_type_of_device(op, given_x.device());
  check_float(op, "x", given_x.scalar_type());
  check_float(op, "grad", given_grad.scalar_type());
  check_parameter(op, "weight", given_weight, given_x);
  TORCH_CHECK(given_grad.sizes() == given_x.sizes() && given_grad.device() == given_x.device(), op,
              ": x is ", given_x.sizes(), " on ", given_x.device(), " but grad ",
              given_grad.sizes(), " on ", given_grad.device());
  if (given_mean.defined()) check_moment(op, "mean", given_mean, given_x);
  check_moment(op, "rstd", given_rstd, given_x);
  const Tensor& residual = options.residual;
  TORCH_CHECK(!residual.defined() ||
                  (options.x && residual.sizes() == given_x.sizes() && residual.is_contiguous() &&
                   residual.scalar_type() == given_x.scalar_type() &&
                   residual.device() == given_x.device()),
              op, ": the residual gradient must be contiguous and like x, ", given_x.sizes(),
              " of ", given_x.scalar_type(), ", whose gradient must be asked for");

  const Tensor grad = given_grad.contiguous(), x = given_x.contiguous();
  const Tensor weight = given_weight.contiguous(), rstd = given_rstd.contiguous();
  const Tensor mean = given_mean.defined() ? given_mean.contiguous() : given_mean;
  const auto check_apart = [&](const char* name, const Tensor& read) {
    TORCH_CHECK(!residual.defined() || !read.defined() ||
                    at::get_overlap_status(residual, read) == at::MemOverlapStatus::No,
                op, ": the residual gradient may not lie over ", name, ", which is read after it");
  };
  check_apart("grad", grad);
  check_apart("x", x);
  check_apart("weight", weight);
  check_apart("mean", mean);
  check_apart("rstd", rstd);
  const cuda::Rows size = rows_of(x);
  const auto floats = weight.options().requires_grad(false);
  NormGradients to;
  if (options.x) to.x = residual.defined() ? residual : at::empty_like(x);
  if (options.weight) to.weight = at::empty({size.width}, floats);
  if (options.bias && mean.defined()) to.bias = at::empty({size.width}, floats);
  Tensor scratch;
  if (to.weight.defined() || to.bias.defined()) {
    scratch = at::empty({2, cuda::slices_of(size.rows), size.width}, floats);
  }

  const auto run = [&](const auto* g, const auto* from) {
    using X = std::remove_const_t<std::remove_pointer_t<decltype(from)>>;
    cuda::NormGradients<X> gradients;
    gradients.x = pointer_or_null<X>(to.x);
    gradients.residual = residual.defined() ? gradients.x : nullptr;
    gradients.weight = pointer_or_null<float>(to.weight);
    gradients.bias = pointer_or_null<float>(to.bias);
    gradients.scratch = pointer_or_null<float>(scratch);
    const cuda::NormInputs<X> inputs{from, weight.const_data_ptr<float>(),
                                     pointer_or_null<const float>(mean),
                                     rstd.const_data_ptr<float>()};
    const auto launch = [&](auto stream) {
      cuda::launch_norm_backward(gradients, g, inputs, size, stream);
    };
    if (on_device(op, x, launch)) return;
    backward_on_cpu(gradients, g, inputs, size);
  };
  with_float(grad, [&](const auto* g) { with_float(x, [&](const auto* from) { run(g, from); }); });
  return to;
}

// An update with its norm. plain(): the update of a float state. row(cells, value, f, offset, n):
// one row on the CPU, f as float32. launch(f, made, stream): all of it on the device.
template <class Plain, class Row, class Launch>
NormedState update_with_norm(const char* op, Tensor& y, const Tensor& f, int64_t bits,
                             const StateNorm& norm, const Probe& probe, const Plain& plain,
                             const Row& row, const Launch& launch_op) {
  check_state(op, y);
  check_field(op, y, f);
  check_probe(op, y, probe);
  check_float(op, "the norm", norm.dtype);
  if (norm.value) check_float(op, "the state's value", *norm.value);
  TORCH_CHECK(y.scalar_type() != at::kDouble, op,
              ": a state whose norm is taken must be int32 (the grid) or float32, got float64");
  TORCH_CHECK(norm.kind == NormKind::Layer || !norm.bias.defined(), op, ": RMSNorm has no bias");
  const Parameters parameters(op, y, norm.weight, norm.bias, norm.eps, norm.kind);
  NormedState result;
  if (y.scalar_type() != at::kInt) {
    plain();
    if (norm.value) result.value = y.to(*norm.value);
    result.norm = kernels::norm(op, y, norm.weight, norm.bias, norm.eps, norm.kind, norm.dtype);
    return result;
  }
  check_bits(op, bits);
  const Tensor g = as_increment(f);
  if (norm.value) result.value = at::empty(y.sizes(), y.options().dtype(*norm.value));
  result.norm = new_norm(y, norm.kind, norm.dtype);
  const cuda::StateNorm made{unit_of(bits), floats_of(result.value), parameters.norm,
                             floats_of(result.norm.y), moments_of(result.norm)};
  const auto launch = [&](auto stream) {
    with_float(g, [&](const auto* increments) { launch_op(increments, made, stream); });
  };
  if (on_device(op, y, launch)) return result;
  int32_t* const cells = y.mutable_data_ptr<int32_t>();
  const FloatRows increments(g);
  const float inverse = cuda::inverse_width(row_length(y));
  for_rows(y, probe, [&](int64_t number, int64_t offset, int64_t n) {
    thread_local std::vector<float> scratch;
    float* value = made.value.as_float != nullptr ? made.value.as_float + offset : nullptr;
    if (value == nullptr) {
      scratch.resize(static_cast<size_t>(n));
      value = scratch.data();
    }
    const uint32_t out = row(cells + offset, value, increments.row(offset, n), offset, n);
    if (made.value.as_bfloat16 != nullptr) narrow_row(made.value.as_bfloat16 + offset, value, n);
    write_norm_row(made.y, made.moments, number, value, made.norm, inverse, n);
    return out;
  });
  return result;
}

// x: a second state, for y.
const int32_t* other_state(const char* op, const Tensor& y, const Tensor& x) {
  check_other_state(op, y, x);
  return y.scalar_type() == at::kInt ? x.const_data_ptr<int32_t>() : nullptr;
}

}  // namespace

Normed layer_norm(const Tensor& x, const Tensor& weight, const Tensor& bias, double eps,
                  at::ScalarType dtype) {
  return norm("layer_norm", x, weight, bias, eps, NormKind::Layer, dtype);
}

Normed rms_norm(const Tensor& x, const Tensor& weight, double eps, at::ScalarType dtype) {
  return norm("rms_norm", x, weight, {}, eps, NormKind::Rms, dtype);
}

NormGradients layer_norm_backward(const Tensor& grad, const Tensor& x, const Tensor& weight,
                                  const Tensor& mean, const Tensor& rstd,
                                  const NormGradientOptions& options) {
  TORCH_CHECK(mean.defined(), "layer_norm_backward: mean is undefined");
  return norm_backward("layer_norm_backward", grad, x, weight, mean, rstd, options);
}

NormGradients rms_norm_backward(const Tensor& grad, const Tensor& x, const Tensor& weight,
                                const Tensor& rstd, const NormGradientOptions& options) {
  return norm_backward("rms_norm_backward", grad, x, weight, {}, rstd, options);
}

NormedState update_norm_(Tensor& y, const Tensor& f, double c, int64_t bits, const StateNorm& norm,
                         const Probe& probe) {
  const float scale = scale_of(c, bits), unit = unit_of(bits);
  return update_with_norm(
      "update_norm_", y, f, bits, norm, probe, [&] { update_(y, f, c, bits, probe); },
      [&](int32_t* cells, float* value, const float* g, int64_t, int64_t n) {
        return update_row(cells, value, g, n, scale, unit);
      },
      [&](const auto* g, const cuda::StateNorm& made, auto stream) {
        cuda::launch_update_norm(y.mutable_data_ptr<int32_t>(), g, scale, made, rows_of(y),
                                 pointers(probe), stream);
      });
}

NormedState reflect_norm_(Tensor& y, const Tensor& x, const Tensor& f, double c, int64_t bits,
                          const StateNorm& norm, const Probe& probe) {
  const int32_t* const others = other_state("reflect_norm_", y, x);
  const float scale = scale_of(c, bits), unit = unit_of(bits);
  return update_with_norm(
      "reflect_norm_", y, f, bits, norm, probe, [&] { reflect_(y, x, f, c, bits, probe); },
      [&](int32_t* cells, float* value, const float* g, int64_t offset, int64_t n) {
        return reflect_row(cells, value, others + offset, g, n, scale, unit);
      },
      [&](const auto* g, const cuda::StateNorm& made, auto stream) {
        cuda::launch_reflect_norm(y.mutable_data_ptr<int32_t>(), others, g, scale, made, rows_of(y),
                                  pointers(probe), stream);
      });
}

NormedState blend_norm_(Tensor& y, const Tensor& x, double b, const Tensor& f, double c,
                        int64_t bits, const StateNorm& norm, const Probe& probe) {
  const int32_t* const others = other_state("blend_norm_", y, x);
  const float scale = scale_of(c, bits), unit = unit_of(bits), factor = static_cast<float>(b);
  return update_with_norm(
      "blend_norm_", y, f, bits, norm, probe, [&] { blend_(y, x, b, f, c, bits, probe); },
      [&](int32_t* cells, float* value, const float* g, int64_t offset, int64_t n) {
        return blend_row(cells, value, others + offset, factor, g, n, scale, unit);
      },
      [&](const auto* g, const cuda::StateNorm& made, auto stream) {
        cuda::launch_blend_norm(y.mutable_data_ptr<int32_t>(), others, factor, g, scale, made,
                                rows_of(y), pointers(probe), stream);
      });
}

}  // namespace rev::kernels
