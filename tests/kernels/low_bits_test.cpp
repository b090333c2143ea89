#include "rev/kernels/low_bits.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "support/throws.h"

namespace rev::kernels {
namespace {

TEST(LowBitsTest, SelectsTheCellFromAnyNeighbourCloserThanHalfThePeriod) {
  for (const int64_t count : {2, 4, 8, 16}) {
    for (const auto& shape : std::vector<std::vector<int64_t>>{{1, 1}, {3, 5}, {2, 4, 8}}) {
      const at::Tensor x = torch::randint(-1000, 1000, shape, at::kInt);
      const at::Tensor packed = pack_low_bits(x, count);
      EXPECT_EQ(packed.numel(), (x.numel() * count + 7) / 8);
      const int64_t reach = (1 << (count - 1)) - 1;
      for (int64_t off = -reach; off <= reach; off += std::max<int64_t>(1, reach / 127)) {
        const at::Tensor near = x + static_cast<int32_t>(off);
        EXPECT_TRUE(at::equal(select_by_low_bits(near, packed, count), x)) << count << " " << off;
      }
    }
  }
}

TEST(LowBitsTest, RefusesOtherWidthsAndTypes) {
  EXPECT_THROW_WITH(pack_low_bits(torch::zeros({4}, at::kInt), 3), "2, 4, 8 or 16, got 3");
  EXPECT_THROW_WITH(pack_low_bits(torch::zeros({4}), 2), "expected int32 cells");
}

}  // namespace
}  // namespace rev::kernels
