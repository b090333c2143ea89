#include "rev/kernels/device.h"

#include <torch/torch.h>

#include "rev/kernels/activation.h"
#include "rev/kernels/adamw.h"
#include "rev/kernels/cross_entropy.h"
#include "rev/kernels/dropout.h"
#include "rev/kernels/embedding.h"
#include "rev/kernels/fixed_point.h"
#include "rev/kernels/global_norm.h"
#include "rev/kernels/grid.h"
#include "rev/kernels/kl.h"
#include "rev/kernels/low_bits.h"
#include "rev/kernels/moe.h"
#include "rev/kernels/norm.h"
#include "rev/kernels/reconstruction.h"
#include "support/throws.h"

namespace rev::kernels {
namespace {

using at::Tensor;

// Meta tensors have shapes and no memory: what would be read of them lies at address 0.
TEST(DeviceTest, OperatorsRefuseWhatIsNeitherTheCpuNorACudaDevice) {
  const auto meta = at::TensorOptions(at::kMeta);
  const Tensor x = torch::empty({4, 8}, meta), row = torch::empty({8}, meta);
  const Tensor tokens = torch::empty({4}, meta.dtype(at::kLong));
  const Tensor number = torch::empty({1}, meta);
  Tensor y = torch::empty({4, 8}, meta.dtype(at::kInt)), logits = x;
  Tensor sums = torch::empty({4}, meta.dtype(at::kLong));
  AdamWStep step;
  step.lr = number;
  StateNorm norm;
  norm.weight = row;
#define EXPECT_REFUSED(op, call) \
  EXPECT_THROW_WITH(call, #op ": expected the CPU or a CUDA device, got meta")
  EXPECT_REFUSED(rev, check_device(at::kMeta));
  EXPECT_REFUSED(bias_gelu, bias_gelu(x));
  EXPECT_REFUSED(bias_gelu_backward, bias_gelu_backward(x, x));
  EXPECT_REFUSED(swiglu, swiglu(x, x));
  EXPECT_REFUSED(swiglu_backward, swiglu_backward(x, x, x));
  EXPECT_REFUSED(adamw_, adamw_({{x, x, x, x, {}, {}, number, {}}}, step));
  EXPECT_REFUSED(cross_entropy, cross_entropy(x, tokens));
  EXPECT_REFUSED(cross_entropy_, cross_entropy_(logits, tokens));
  EXPECT_REFUSED(philox_dropout, philox_dropout(x, 0.5, {}));
  EXPECT_REFUSED(philox_mask, philox_mask({4}, 0.5, {}, at::kMeta));
  EXPECT_REFUSED(embedding_backward, embedding_backward(x, tokens, 5, at::kFloat));
  EXPECT_REFUSED(gather_values, gather_values(y, tokens, 16));
  EXPECT_REFUSED(global_norm, global_norm({x}));
  EXPECT_REFUSED(encode, encode(x, at::kInt, 16));
  EXPECT_REFUSED(decode, decode(y, 16));
  EXPECT_REFUSED(update_, update_(y, x, 1.0, 16));
  EXPECT_REFUSED(row_sums, row_sums(y));
  EXPECT_REFUSED(kl, kl(x, x));
  EXPECT_REFUSED(kl_, kl_(x, logits));
  EXPECT_REFUSED(pack_low_bits, pack_low_bits(y, 2));
  EXPECT_REFUSED(route, route(x, 2, true));
  EXPECT_REFUSED(layer_norm, layer_norm(x, row, row, 1e-5, at::kFloat));
  EXPECT_REFUSED(rms_norm_backward, rms_norm_backward(x, x, row, torch::empty({4}, meta)));
  EXPECT_REFUSED(update_norm_, update_norm_(y, x, 1.0, 16, norm));
  EXPECT_REFUSED(compare_rows, compare_rows(sums, sums));
  EXPECT_REFUSED(drift, drift(x, x));
#undef EXPECT_REFUSED
}

}  // namespace
}  // namespace rev::kernels
