// CUDA's functions in the emulator, against what CUDA's manual says of them.
#include <cmath>
#include <gtest/gtest.h>
#include <limits>

#include "emulator/emulator.h"

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

TEST(ArithmeticTest, RoundsOnce) {
  const float tiny = std::ldexp(1.0f, -24);
  EXPECT_EQ(__fadd_rn(1.0f, tiny), 1.0f);  // a tie, to even
  EXPECT_EQ(__fmaf_rn(1.0f + 2 * tiny, 1.0f - 2 * tiny, -1.0f), -4 * tiny * tiny);
  EXPECT_EQ(__fmul_rn(1.0f + 2 * tiny, 1.0f - 2 * tiny), 1.0f);
  EXPECT_EQ(__fdiv_rn(1.0f, 3.0f), 0x1.555556p-2f);
  EXPECT_EQ(__frcp_rn(3.0f), 0x1.555556p-2f);
  EXPECT_EQ(__fsqrt_rn(2.0f), 0x1.6a09e6p0f);
  EXPECT_EQ(__frsqrt_rn(2.0f), 0x1.6a09e6p-1f);
  EXPECT_EQ(__frsqrt_rn(0.0f), kInfinity);
  EXPECT_EQ(__saturatef(kNan), 0.0f);
  EXPECT_EQ(__saturatef(1.5f), 1.0f);
  EXPECT_EQ(__fma_rn(3.0, 5.0, 1.0), 16.0);
}

TEST(ArithmeticTest, ConvertsWithClamping) {
  EXPECT_EQ(__float2int_rn(2.5f), 2);
  EXPECT_EQ(__float2int_rn(-3.5f), -4);
  EXPECT_EQ(__float2int_rz(-2.7f), -2);
  EXPECT_EQ(__float2int_rd(-2.1f), -3);
  EXPECT_EQ(__float2int_ru(2.1f), 3);
  EXPECT_EQ(__float2int_rn(3e9f), std::numeric_limits<int>::max());
  EXPECT_EQ(__float2int_rn(-kInfinity), std::numeric_limits<int>::min());
  EXPECT_EQ(__float2int_rn(kNan), 0);
  EXPECT_EQ(__float2uint_rn(-1.0f), 0u);
  EXPECT_EQ(__float2uint_rz(5e9f), 0xffffffffu);
  EXPECT_EQ(__float_as_uint(1.0f), 0x3f800000u);
  EXPECT_EQ(__uint_as_float(0x3f800000u), 1.0f);
  EXPECT_EQ(__int2float_rn(16777217), 16777216.0f);
}

TEST(ArithmeticTest, CountsAndMovesBits) {
  EXPECT_EQ(__popc(0xf0f0u), 8);
  EXPECT_EQ(__clz(1), 31);
  EXPECT_EQ(__clz(0), 32);
  EXPECT_EQ(__clzll(1), 63);
  EXPECT_EQ(__ffs(0), 0);
  EXPECT_EQ(__ffs(8), 4);
  EXPECT_EQ(__brev(1u), 0x80000000u);
  EXPECT_EQ(__brev(0xf0u), 0x0f000000u);
  EXPECT_EQ(__umulhi(0xffffffffu, 0xffffffffu), 0xfffffffeu);
  EXPECT_EQ(__mulhi(-1, 1), -1);
  EXPECT_EQ(__umul64hi(~0ull, ~0ull), ~0ull - 1);
  EXPECT_EQ(__mul64hi(-1, 1), -1);
  EXPECT_EQ(__byte_perm(0x33221100u, 0x77665544u, 0x7410u), 0x77441100u);
  EXPECT_EQ(__byte_perm(0x00008000u, 0u, 0x4449u), 0x000000ffu);
  EXPECT_EQ(__funnelshift_l(0x80000000u, 1u, 1), 3u);
  EXPECT_EQ(__funnelshift_r(2u, 1u, 1), 0x80000001u);
}

TEST(ArithmeticTest, AtomicsReturnWhatWasBefore) {
  int i = 5;
  EXPECT_EQ(atomicAdd(&i, 2), 5);
  EXPECT_EQ(atomicMax(&i, 9), 7);
  EXPECT_EQ(atomicMin(&i, 3), 9);
  EXPECT_EQ(atomicOr(&i, 8), 3);
  EXPECT_EQ(atomicCAS(&i, 11, 1), 11);
  EXPECT_EQ(atomicCAS(&i, 11, 2), 1);
  EXPECT_EQ(atomicExch(&i, 4), 1);
  EXPECT_EQ(i, 4);
  float f = 1.5f;
  EXPECT_EQ(atomicAdd(&f, 1), 1.5f);
  EXPECT_EQ(f, 2.5f);
  unsigned long long n = 1ull << 40;
  EXPECT_EQ(atomicAdd(&n, 1), 1ull << 40);
  EXPECT_EQ(n, (1ull << 40) + 1);
}

}  // namespace
