// Matrix products whose bits repeat: the same call, on the same device, gives the same bits, in a
// layer's forward and when it is rebuilt.
//
// On CUDA they are cublasLt's, with one algorithm for the life of the process for each kind of
// product (sizes, strides, dtypes, alignment, what is done beside it), none that splits sums
// between blocks; what is done beside the product costs no pass of its own. On the CPU they are
// ATen's. A CUDA device and the CPU do not give the same bits.
//
// Shapes are those of the product: a [M,K], b [K,N], both float32 or both bfloat16, on one device,
// read as they are where rows or columns are dense, and copied first where neither is. Sums are
// taken in float32; with operands of float32, TF32 is used where LibTorch is told to
// (allow_tf32 and the like). Other floating dtypes are multiplied by ATen on every device, which
// promises less. Nothing here has a graph or heeds autocast. c10::Error is thrown where shapes,
// dtypes or devices do not fit; and on CUDA std::runtime_error where cublasLt refuses, or where the
// first product of its kind comes while its stream is being captured into a graph.
#pragma once

#include <ATen/core/Tensor.h>
#include <optional>
#include <utility>

namespace rev::kernels {

/// a b [M,N], in `dtype`: a's, which it is if not given, or float32.
at::Tensor matmul(const at::Tensor& a, const at::Tensor& b,
                  std::optional<at::ScalarType> dtype = {});

/// c += alpha a b, rounded once. c [M,N] of a's dtype or float32, of dense rows.
void matmul_add_(at::Tensor& c, const at::Tensor& a, const at::Tensor& b, double alpha = 1);

/// a b + bias [M,N] in the dtype of bias [N], a's or float32.
at::Tensor matmul_bias(const at::Tensor& a, const at::Tensor& b, const at::Tensor& bias);

/// gelu(before) in its tanh form, and before = a b + bias, both [M,N]; bias [N] of a's dtype.
std::pair<at::Tensor, at::Tensor> matmul_bias_gelu(const at::Tensor& a, const at::Tensor& b,
                                                   const at::Tensor& bias);

/// c = a b gelu'(before), and the sum of c over M, which is the gradient of the bias [N]; before
/// [M,N] of a's dtype. With a = dy and b = W2^T it is the gradient of x W1 + bias, of y =
/// gelu(x W1 + bias) W2.
std::pair<at::Tensor, at::Tensor> matmul_gelu_backward(const at::Tensor& a, const at::Tensor& b,
                                                       const at::Tensor& before);

/// a b, and the sum of a over K [M], both in `dtype`, as `matmul`. With a = dy^T and b = x they are
/// the gradients of W [out,in] and bias, of y = x W^T + bias.
std::pair<at::Tensor, at::Tensor> matmul_sum_a(const at::Tensor& a, const at::Tensor& b,
                                               std::optional<at::ScalarType> dtype = {});

/// a b, and the sum of b over K [N], both in `dtype`, as `matmul`. With a = x^T and b = dy they are
/// the gradients of W [in,out] and bias, of y = x W + bias.
std::pair<at::Tensor, at::Tensor> matmul_sum_b(const at::Tensor& a, const at::Tensor& b,
                                               std::optional<at::ScalarType> dtype = {});

}  // namespace rev::kernels
