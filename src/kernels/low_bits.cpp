#include "rev/kernels/low_bits.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/constant_pad_nd.h>

namespace rev::kernels {
namespace {

void check(const char* op, const at::Tensor& cells, int64_t count) {
  TORCH_CHECK(cells.scalar_type() == at::kInt, op, ": expected int32 cells, got ",
              cells.scalar_type());
  TORCH_CHECK(count == 2 || count == 4 || count == 8 || count == 16, op,
              ": the count of low bits must be 2, 4, 8 or 16, got ", count);
}

// Places of the values inside a byte: [0, count, 2 count, ...].
at::Tensor places(const at::Tensor& like, int64_t count) {
  return at::arange(0, 8, count, like.options().dtype(at::kInt));
}

}  // namespace

at::Tensor pack_low_bits(const at::Tensor& cells, int64_t count) {
  check("pack_low_bits", cells, count);
  if (count == 16) return cells.reshape({-1}).to(at::kShort).view(at::kByte);
  const int64_t per_byte = 8 / count;
  const int64_t missing = (per_byte - cells.numel() % per_byte) % per_byte;
  at::Tensor low = cells.reshape({-1}).bitwise_and((1 << count) - 1);
  if (missing != 0) low = at::constant_pad_nd(low, {0, missing});
  return low.view({-1, per_byte}).bitwise_left_shift_(places(cells, count)).sum(1).to(at::kByte);
}

at::Tensor select_by_low_bits(const at::Tensor& near, const at::Tensor& packed, int64_t count) {
  check("select_by_low_bits", near, count);
  const int32_t mask = (1 << count) - 1, half = 1 << (count - 1);
  const at::Tensor low = (count == 16 ? packed.view(at::kShort).to(at::kInt)
                                      : packed.to(at::kInt)
                                            .unsqueeze(1)
                                            .bitwise_right_shift(places(near, count))
                                            .reshape({-1}))
                             .narrow(0, 0, near.numel())
                             .view(near.sizes());  // and higher bits, which do not matter
  // The distance to the next cell with these bits, from -half to half - 1.
  return near + (low - near + half).bitwise_and_(mask).sub_(half);
}

}  // namespace rev::kernels
