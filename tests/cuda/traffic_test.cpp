// The bytes that kernels ask of global memory, counted by the race finder's calls, against the
// bytes that their operations must move. What a cache answers is counted like the rest, so that the
// numbers bound what a GPU's memory moves from above.
#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <sstream>
#include <string>
#include <vector>

#include "cuda/activation.h"
#include "cuda/adamw.h"
#include "cuda/grid.h"
#include "cuda/low_bits.h"
#include "cuda/low_bits_math.h"
#include "cuda/norm.h"
#include "cuda/reconstruction.h"
#include "cuda/support/kernel_test.h"
#include "cuda/support/numbers.h"
#include "cuda/update_norm.h"
#include "emulator/races.h"

namespace rev::cuda {
namespace {

using namespace testing;

constexpr Rows kState{96, 768};  // GPT-2's width
constexpr int64_t kCount = kState.rows * kState.width;
constexpr double kSlack = 1.05;  // of the least

// Cells, numbers and rows that launches work on.
struct Memory {
  Buffer<int32_t> y{std::vector<int32_t>(kCount)}, x{std::vector<int32_t>(kCount)};
  Buffer<float> f{std::vector<float>(kCount)}, value{kCount};
  Buffer<BFloat16> f16{std::vector<BFloat16>(kCount)}, out16{kCount};
  Buffer<uint32_t> digits{std::vector<uint32_t>(kCount)};
  Buffer<uint64_t> wide_digits{std::vector<uint64_t>(kCount)};
  Buffer<uint32_t> planes{kState.rows * plane_groups(kState.width) * 3};
  Buffer<uint8_t> low_bits{std::vector<uint8_t>(static_cast<std::size_t>(packed_bytes(kCount, 2)))};
  Buffer<int64_t> before{std::vector<int64_t>(kState.rows)}, after{kState.rows};
  Buffer<int32_t> saturated{std::vector<int32_t>{0}};
  Buffer<float> weight{std::vector<float>(kState.width)}, bias{std::vector<float>(kState.width)};
  Buffer<float> mean{std::vector<float>(kState.rows)}, rstd{std::vector<float>(kState.rows)};
  Buffer<float> drift{std::vector<float>(2)}, clip{std::vector<float>{1}};
  Buffer<int64_t> record{std::vector<int64_t>(kRowRecord, -1)};

  Probe forward() const { return {nullptr, after.data(), saturated.data()}; }
  Probe backward() const { return {nullptr, after.data(), nullptr}; }
};

struct Operation {
  std::string name;
  double element_bytes;  // that must be read and written for each element
  double row_bytes;      // and for each row
  double shared_bytes;   // read for each element of what all rows share, which lies in caches
  std::function<void(const Memory&)> launch;
};

constexpr float kScale = 65536.0f;

std::vector<Operation> operations() {
  const auto made = [](const Memory& m) {
    StateNorm norm{};
    norm.unit = 1 / kScale;
    norm.norm = {m.weight.data(), m.bias.data(), 1e-5f, true};
    norm.y.as_bfloat16 = m.out16.data();
    norm.moments = {m.mean.data(), m.rstd.data()};
    return norm;
  };
  return {
      {"encode", 4 + 4, 8, 0,
       [](const Memory& m) {
         launch_encode(m.y.data(), m.f.data(), kScale, kState, m.forward(), nullptr);
       }},
      {"decode", 4 + 4, 0, 0,
       [](const Memory& m) {
         launch_decode(m.value.data(), m.y.data(), 1 / kScale, kCount, nullptr);
       }},
      {"update, float32 field", 4 + 4 + 4, 8, 0,
       [](const Memory& m) {
         launch_update(m.y.data(), m.f.data(), kScale, kState, m.forward(), nullptr);
       }},
      {"update, bfloat16 field", 4 + 2 + 4, 8, 0,
       [](const Memory& m) {
         launch_update(m.y.data(), m.f16.data(), kScale, kState, m.forward(), nullptr);
       }},
      {"undo of update, bfloat16 field", 4 + 2 + 4, 8, 0,
       [](const Memory& m) {
         launch_update(m.y.data(), m.f16.data(), -kScale, kState, m.backward(), nullptr);
       }},
      {"leapfrog, bfloat16 field", 4 + 4 + 2 + 4, 8, 0,
       [](const Memory& m) {
         launch_reflect(m.y.data(), m.x.data(), m.f16.data(), kScale, kState, m.forward(), nullptr);
       }},
      {"midpoint(a), bfloat16 field", 4 + 4 + 2 + 4, 8, 0,
       [](const Memory& m) {
         launch_blend(m.y.data(), m.x.data(), 0.5f, m.f16.data(), kScale, kState, m.forward(),
                      nullptr);
       }},
      {"scale by a, 32-bit digits", 4 + 4 + 4 + 4, 8, 0,
       [](const Memory& m) {
         launch_scale(m.y.data(), m.digits.data(), {300, 256, true}, kState, m.forward(), nullptr);
       }},
      {"undo of scale, 32-bit digits", 4 + 4 + 4 + 4, 8, 0,
       [](const Memory& m) {
         launch_unscale(m.y.data(), m.digits.data(), {300, 256, true}, kState, m.backward(),
                        nullptr);
       }},
      {"scale by a, 64-bit digits", 4 + 4 + 8 + 8, 8, 0,
       [](const Memory& m) {
         launch_scale(m.y.data(), m.wide_digits.data(), {300, 256, true}, kState, m.forward(),
                      nullptr);
       }},
      {"scale by 1/8, bit planes", 4 + 4 + 3.0 / 8, 8, 0,
       [](const Memory& m) {
         launch_shift_down(m.y.data(), m.planes.data(), {3, false}, kState, m.forward(), nullptr);
       }},
      {"undo of scale by 1/8, bit planes", 4 + 4 + 3.0 / 8, 8, 0,
       [](const Memory& m) {
         launch_shift_down(m.y.data(), m.planes.data(), {3, false}, kState, {}, nullptr);
         emulator::races::take_traffic();
         launch_shift_up(m.y.data(), m.planes.data(), {3, false}, kState, m.backward(), nullptr);
       }},
      {"row sums", 4, 8, 0,
       [](const Memory& m) { launch_row_sums(m.after.data(), m.y.data(), kState, nullptr); }},
      {"comparison of row sums", 0, 8 + 8, 0,
       [](const Memory& m) {
         launch_row_sums(m.after.data(), m.y.data(), kState, nullptr);
         launch_row_sums(m.before.data(), m.y.data(), kState, nullptr);
         emulator::races::take_traffic();
         launch_compare_rows(m.record.data(), m.before.data(), m.after.data(), kState.rows,
                             nullptr);
       }},
      {"drift of a float32 state", 4 + 4, 0, 0,
       [](const Memory& m) {
         launch_decode(m.value.data(), m.y.data(), 1 / kScale, kCount, nullptr);
         emulator::races::take_traffic();
         launch_drift(m.drift.data(), m.f.data(), m.value.data(), kCount, nullptr);
       }},
      {"low bits kept, 2", 4 + 2.0 / 8, 0, 0,
       [](const Memory& m) {
         launch_pack_low_bits(m.low_bits.data(), m.y.data(), kCount, 2, nullptr);
       }},
      {"selection by low bits, 2", 4 + 2.0 / 8 + 4, 8, 0,
       [](const Memory& m) {
         launch_select_by_low_bits(m.x.data(), m.y.data(), m.low_bits.data(), 2, kState,
                                   m.after.data(), nullptr);
       }},
      {"update + LayerNorm, bfloat16", 4 + 2 + 4 + 2, 8 + 4 + 4, 4 + 4,
       [made](const Memory& m) {
         launch_update_norm(m.y.data(), m.f16.data(), kScale, made(m), kState, m.forward(),
                            nullptr);
       }},
      {"LayerNorm, float32 to bfloat16", 4 + 2, 4 + 4, 4 + 4,
       [](const Memory& m) {
         launch_norm({nullptr, m.out16.data()}, {m.mean.data(), m.rstd.data()}, m.f.data(),
                     {m.weight.data(), m.bias.data(), 1e-5f, true}, kState, nullptr);
       }},
      {"GELU + bias, bfloat16", 2 + 2, 0, 4,
       [](const Memory& m) {
         launch_gelu(m.out16.data(), m.f16.data(), m.bias.data(), kState, nullptr);
       }},
      {"AdamW, float32", 4 + 4 + 4 + 4 + 4 + 4 + 4, 0, 0,
       [](const Memory& m) {
         const Buffer<float> moment{std::vector<float>(kCount)}, square{std::vector<float>(kCount)};
         const AdamWTensor<float, float, float> tensor{
             m.value.data(), m.f.data(), moment.data(), square.data(), nullptr,
             nullptr,        nullptr,    m.clip.data(), kCount,        0.1f};
         launch_decode(m.value.data(), m.y.data(), 1 / kScale, kCount, nullptr);
         emulator::races::take_traffic();
         launch_adamw(&tensor, 1, {AdamWSettings{}, m.clip.data(), nullptr, nullptr}, nullptr);
       }},
  };
}

std::string table() {
  std::ostringstream to;
  to << "kernel\tleast bytes an element\tbytes moved\tratio\tbeside them, of what all rows share\n";
  to.precision(4);
  for (const Operation& operation : operations()) {
    const Memory memory;
    emulator::races::take_traffic();
    operation.launch(memory);
    const emulator::races::Traffic traffic = emulator::races::take_traffic();
    // In bytes, which are whole numbers.
    const double least = operation.element_bytes * kCount + operation.row_bytes * kState.rows;
    const double moved =
        static_cast<double>(traffic.read + traffic.written) - operation.shared_bytes * kCount;
    to << operation.name << '\t' << least / kCount << '\t' << moved / kCount << '\t'
       << moved / least << '\t' << operation.shared_bytes << '\n';
    EXPECT_LE(moved, least * kSlack) << operation.name;
    EXPECT_GE(moved, least) << operation.name << ": the least is not the least";
  }
  return to.str();
}

// REV_WRITE_RESULTS=1 writes the file anew.
TEST(TrafficTest, IsTheLeastForStatesAndTheTableSaysWhatItIs) {
  const std::filesystem::path path = std::filesystem::path(REV_RESULTS) / "kernel_bytes.tsv";
  const std::string made = table();
  if (std::getenv("REV_WRITE_RESULTS") != nullptr) std::ofstream(path) << made;
  std::ifstream file(path);
  const std::string kept{std::istreambuf_iterator<char>(file), {}};
  EXPECT_EQ(made, kept);
}

}  // namespace
}  // namespace rev::cuda
