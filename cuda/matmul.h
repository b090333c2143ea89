// Matrix products by cublasLt, with what stands before or after them in a layer done in the same
// pass (cublasLt's epilogues).
//
// A layer that is rebuilt needs the bits it had before, so nothing is left to choose from call to
// call: the algorithm for a product is looked up once per device, sizes, strides, types, epilogue
// and alignment of the operands, and kept for the life of the process; algorithms that split the
// sum over k between blocks are passed over; and each stream has a workspace of its own, of the
// size that the choice was made for.
#pragma once

#include <cstdint>

#include "cuda/stream.h"

namespace rev::cuda {

enum class FloatType { Float32, BFloat16 };

/// A matrix [rows,columns] in memory: element (i, j) is data[i * stride + j], or, where it is
/// `transposed`, data[j * stride + i].
struct Operand {
  const void* data;
  int64_t stride;
  bool transposed = false;
};

/// What is done beside the product s = alpha a b + (add ? c : 0).
enum class Epilogue {
  None,          ///< c = s
  Bias,          ///< c = s + vector[n], vector is read
  GeluBias,      ///< before = s + vector[n], c = gelu(before) in its tanh form; vector is read
  GeluBackward,  ///< c = s gelu'(before), vector[n] = sum of c over m; before is read
  SumA,          ///< c = s, vector[m] = sum of a over k
  SumB,          ///< c = s, vector[n] = sum of b over k
};

/// A product c [m,n] of a [m,k] and b [k,n]; m, n and k from 1 to 2^31 - 1. Sums are taken in
/// float32, c and the other results are rounded once.
struct Product {
  int64_t m, n, k;
  FloatType in;   ///< of a and b
  FloatType out;  ///< of c, vector and before; Float32 where `in` is
  Operand a, b;
  void* c;           ///< element (i, j) is c[i * c_stride + j]
  int64_t c_stride;  ///< n or more
  float alpha = 1;
  bool add = false;   ///< whether c is added to; then it is read
  bool tf32 = false;  ///< whether float32 operands may be rounded to TF32, which is faster
  Epilogue epilogue = Epilogue::None;
  void* vector = nullptr;
  void* before = nullptr;     ///< [m,n], aligned to 16 bytes
  int64_t before_stride = 0;  ///< n or more, a multiple of 8
};

/// Computes the product on the current device's `stream`.
///
/// The first product of its kind on a device, and the first on a stream, may not be captured into a
/// graph: they search and allocate. A graph uses the workspace of the stream that it was captured
/// on, so nothing else may be computed on that stream while the graph runs elsewhere.
/// Throws std::invalid_argument where sizes or strides do not fit, and std::runtime_error where
/// CUDA or cublasLt refuses, with its reason. May be called from several threads.
void matmul(const Product& product, Stream stream);

}  // namespace rev::cuda
