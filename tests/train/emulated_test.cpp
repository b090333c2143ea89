// The CUDA kernels in a whole training: rev-gpt2 whose operators run the kernels' own source, under
// the emulator, ends with the same bytes as the one that takes the CPU path.
#include "train/program.h"

namespace rev::train {
namespace {

class EmulatedCudaTest : public RevGpt2Test, public ::testing::WithParamInterface<const char*> {
 protected:
  void SetUp() override {
    RevGpt2Test::SetUp();
    if (find_program(kEmulated).empty()) {
      GTEST_SKIP() << "rev-gpt2-emulated is not built: this LibTorch has no CUDA";
    }
  }
  void expect_same(const Arguments& options) {
    const Arguments all = options + Arguments{"--scheme", GetParam()};
    const std::string plain = weights("plain", tiny("plain", all));
    EXPECT_FALSE(plain.empty());
    EXPECT_TRUE(weights("emulated", tiny("emulated", all), kEmulated) == plain);
  }

  static constexpr const char* kEmulated = "rev-gpt2-emulated";
};

TEST_P(EmulatedCudaTest, TrainsToTheSameBytes) { expect_same({}); }

TEST_P(EmulatedCudaTest, TrainsToTheSameBytesInBFloat16WithDropout) {
  expect_same({"--dtype", "bfloat16", "--dropout", "0.1"});
}

INSTANTIATE_TEST_SUITE_P(Schemes, EmulatedCudaTest,
                         ::testing::Values("residual", "midpoint", "midpoint-a", "leapfrog",
                                           "hamiltonian", "revffn"),
                         [](const auto& scheme) {
                           std::string name = scheme.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace rev::train
