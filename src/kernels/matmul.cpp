#include "rev/kernels/matmul.h"

#include <ATen/Context.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/gelu_backward.h>
#include <ATen/ops/mm.h>

#include "cuda/matmul.h"
#include "kernels/device.h"
#include "rev/kernels/dtype.h"

namespace rev::kernels {
namespace {

using at::Tensor;
using cuda::Epilogue;

void check_operands(const char* op, const Tensor& a, const Tensor& b) {
  TORCH_CHECK(a.dim() == 2 && b.dim() == 2 && a.size(1) == b.size(0), op,
              ": expected a [M,K] and b [K,N], got ", a.sizes(), " and ", b.sizes());
  TORCH_CHECK(at::isFloatingType(a.scalar_type()) && a.scalar_type() == b.scalar_type(), op,
              ": a and b must be of one floating dtype, got ", a.scalar_type(), " and ",
              b.scalar_type());
  TORCH_CHECK(a.device() == b.device(), op, ": a is on ", a.device(), " but b on ", b.device());
}

void check_dtype(const char* op, const Tensor& a, at::ScalarType dtype) {
  TORCH_CHECK(dtype == a.scalar_type() || (a.scalar_type() == at::kBFloat16 && dtype == at::kFloat),
              op, ": a product of ", a.scalar_type(), " cannot be ", dtype);
}

void check_like(const char* op, const char* name, const Tensor& x, at::IntArrayRef sizes,
                const Tensor& a) {
  TORCH_CHECK(x.sizes() == sizes && x.device() == a.device(), op, ": ", name, " must be ", sizes,
              " on ", a.device(), ", got ", x.sizes(), " on ", x.device());
}

// Whether the product is cuda/matmul.h's to compute, on a device where kernels run.
bool is_pinned(const Tensor& a, const Tensor& b) {
  return is_kernel_float(a.scalar_type()) && a.numel() > 0 && b.numel() > 0;
}

cuda::FloatType type_of(at::ScalarType dtype) {
  return dtype == at::kFloat ? cuda::FloatType::Float32 : cuda::FloatType::BFloat16;
}

// Whether each of the rows lies in one piece, and none in another.
bool has_dense_rows(int64_t rows, int64_t columns, int64_t row_stride, int64_t column_stride) {
  return (column_stride == 1 || columns == 1) && (row_stride >= columns || rows == 1);
}

bool has_dense_rows(const Tensor& x) {
  return has_dense_rows(x.size(0), x.size(1), x.stride(0), x.stride(1));
}

// From row to row. Of a single row it may be anything, and is the width, so that it makes no
// difference.
int64_t row_stride(const Tensor& x) { return x.size(0) == 1 ? x.size(1) : x.stride(0); }

// Of rows and columns one kind is dense, or it is a copy.
Tensor dense(const Tensor& x) {
  const bool columns = has_dense_rows(x.size(1), x.size(0), x.stride(1), x.stride(0));
  return has_dense_rows(x) || columns ? x : x.contiguous();
}

cuda::Operand operand_of(const Tensor& x) {
  if (has_dense_rows(x)) return {x.const_data_ptr(), row_stride(x), false};
  return {x.const_data_ptr(), x.stride(1), true};
}

// ATen's operators are called in the forms that write to a given tensor: autocast leaves those
// alone.

// Computes the product with what is filled in beside a, b and c. False: on this device, and for
// these operands, it is ATen's.
template <class Fill>
bool multiply(const char* op, const Tensor& a, const Tensor& b, const Tensor& c, const Fill& fill) {
  if (!is_pinned(a, b)) return false;
  const auto launch = [&](auto stream) {
    const Tensor left = dense(a), right = dense(b);  // alive until the product is queued
    cuda::Product p{};
    p.m = a.size(0);
    p.n = b.size(1);
    p.k = a.size(1);
    p.in = type_of(a.scalar_type());
    p.out = type_of(c.scalar_type());
    p.a = operand_of(left);
    p.b = operand_of(right);
    p.c = c.mutable_data_ptr();
    p.c_stride = row_stride(c);
    p.alpha = 1;
    p.tf32 = a.scalar_type() == at::kFloat && at::globalContext().allowTF32CuBLAS();
    fill(p);
    cuda::matmul(p, stream);
  };
  return on_device(op, a, launch);
}

Tensor result(const Tensor& a, at::IntArrayRef sizes, at::ScalarType dtype) {
  return at::empty(sizes, a.options().dtype(dtype).requires_grad(false));
}

// [M,N] with rows that start at multiples of 8 elements, as cublasLt asks of what gelu is applied
// to.
Tensor padded(const Tensor& a, int64_t rows, int64_t columns) {
  return result(a, {rows, (columns + 7) / 8 * 8}, a.scalar_type()).narrow(1, 0, columns);
}

// The stride that such a matrix has; 0 where x is none.
int64_t padded_stride(const Tensor& x) {
  if (!has_dense_rows(x) || reinterpret_cast<uintptr_t>(x.const_data_ptr()) % 16 != 0) return 0;
  if (x.size(0) == 1) return (x.size(1) + 7) / 8 * 8;
  return x.stride(0) % 8 == 0 ? x.stride(0) : 0;
}

std::pair<Tensor, Tensor> with_sum(const char* op, const Tensor& a, const Tensor& b,
                                   std::optional<at::ScalarType> as, Epilogue epilogue) {
  check_operands(op, a, b);
  const at::ScalarType dtype = as.value_or(a.scalar_type());
  check_dtype(op, a, dtype);
  const at::NoGradGuard no_graph;
  const bool of_a = epilogue == Epilogue::SumA;
  Tensor c = result(a, {a.size(0), b.size(1)}, dtype);
  const Tensor sum = result(a, {of_a ? a.size(0) : b.size(1)}, dtype);
  const auto fill = [&](cuda::Product& p) {
    p.epilogue = epilogue;
    p.vector = sum.mutable_data_ptr();
  };
  if (multiply(op, a, b, c, fill)) return {c, sum};
  at::mm_out(c, a.to(dtype), b.to(dtype));
  return {c, of_a ? a.sum(1, false, dtype) : b.sum(0, false, dtype)};
}

}  // namespace

Tensor matmul(const Tensor& a, const Tensor& b, std::optional<at::ScalarType> as) {
  check_operands("matmul", a, b);
  const at::ScalarType dtype = as.value_or(a.scalar_type());
  check_dtype("matmul", a, dtype);
  const at::NoGradGuard no_graph;
  Tensor c = result(a, {a.size(0), b.size(1)}, dtype);
  if (multiply("matmul", a, b, c, [](cuda::Product&) {})) return c;
  return at::mm_out(c, a.to(dtype), b.to(dtype));
}

void matmul_add_(Tensor& c, const Tensor& a, const Tensor& b, double alpha) {
  check_operands("matmul_add_", a, b);
  check_like("matmul_add_", "c", c, {a.size(0), b.size(1)}, a);
  check_dtype("matmul_add_", a, c.scalar_type());
  TORCH_CHECK(has_dense_rows(c), "matmul_add_: the rows of c must be dense, got strides ",
              c.strides());
  const at::NoGradGuard no_graph;
  const auto fill = [&](cuda::Product& p) {
    p.alpha = static_cast<float>(alpha);
    p.add = true;
  };
  if (multiply("matmul_add_", a, b, c, fill)) return;
  c.addmm_(a.to(c.scalar_type()), b.to(c.scalar_type()), 1, alpha);
}

Tensor matmul_bias(const Tensor& a, const Tensor& b, const Tensor& bias) {
  check_operands("matmul_bias", a, b);
  check_like("matmul_bias", "bias", bias, {b.size(1)}, a);
  const at::ScalarType dtype = bias.scalar_type();
  check_dtype("matmul_bias", a, dtype);
  const at::NoGradGuard no_graph;
  const Tensor added = bias.contiguous();
  Tensor c = result(a, {a.size(0), b.size(1)}, dtype);
  const auto fill = [&](cuda::Product& p) {
    p.epilogue = Epilogue::Bias;
    p.vector = const_cast<void*>(added.const_data_ptr());  // it is read
  };
  if (multiply("matmul_bias", a, b, c, fill)) return c;
  return at::addmm_out(c, bias, a.to(dtype), b.to(dtype));
}

std::pair<Tensor, Tensor> matmul_bias_gelu(const Tensor& a, const Tensor& b, const Tensor& bias) {
  check_operands("matmul_bias_gelu", a, b);
  check_like("matmul_bias_gelu", "bias", bias, {b.size(1)}, a);
  TORCH_CHECK(bias.scalar_type() == a.scalar_type(), "matmul_bias_gelu: bias must be ",
              a.scalar_type(), ", got ", bias.scalar_type());
  const at::NoGradGuard no_graph;
  const Tensor added = bias.contiguous();
  Tensor c = result(a, {a.size(0), b.size(1)}, a.scalar_type());
  Tensor before = padded(a, a.size(0), b.size(1));
  const auto fill = [&](cuda::Product& p) {
    p.epilogue = Epilogue::GeluBias;
    p.vector = const_cast<void*>(added.const_data_ptr());  // it is read
    p.before = before.mutable_data_ptr();
    p.before_stride = padded_stride(before);
  };
  if (multiply("matmul_bias_gelu", a, b, c, fill)) return {c, before};
  at::addmm_out(before, bias, a, b);
  at::gelu_out(c, before, "tanh");
  return {c, before};
}

std::pair<Tensor, Tensor> matmul_gelu_backward(const Tensor& a, const Tensor& b,
                                               const Tensor& before) {
  check_operands("matmul_gelu_backward", a, b);
  check_like("matmul_gelu_backward", "before", before, {a.size(0), b.size(1)}, a);
  TORCH_CHECK(before.scalar_type() == a.scalar_type(), "matmul_gelu_backward: before must be ",
              a.scalar_type(), ", got ", before.scalar_type());
  const at::NoGradGuard no_graph;
  Tensor c = result(a, {a.size(0), b.size(1)}, a.scalar_type()), read = before;
  const Tensor sum = result(a, {b.size(1)}, a.scalar_type());
  const auto fill = [&](cuda::Product& p) {
    if (padded_stride(read) == 0) read = padded(a, p.m, p.n).copy_(before);
    p.epilogue = Epilogue::GeluBackward;
    p.vector = sum.mutable_data_ptr();
    p.before = const_cast<void*>(read.const_data_ptr());  // it is read
    p.before_stride = padded_stride(read);
  };
  if (multiply("matmul_gelu_backward", a, b, c, fill)) return {c, sum};
  at::gelu_backward_out(c, at::mm_out(c, a, b), before, "tanh");
  return {c, c.sum(0)};
}

std::pair<Tensor, Tensor> matmul_sum_a(const Tensor& a, const Tensor& b,
                                       std::optional<at::ScalarType> dtype) {
  return with_sum("matmul_sum_a", a, b, dtype, Epilogue::SumA);
}

std::pair<Tensor, Tensor> matmul_sum_b(const Tensor& a, const Tensor& b,
                                       std::optional<at::ScalarType> dtype) {
  return with_sum("matmul_sum_b", a, b, dtype, Epilogue::SumB);
}

}  // namespace rev::kernels
