#include "cuda/adamw.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>

#include "cuda/support/kernel_test.h"
#include "cuda/support/numbers.h"

namespace rev::cuda {
namespace {

using namespace testing;

constexpr AdamWSettings kSettings{0.9f, 0.1f, 0.95f, 0.05f, 1e-8f};

// A tensor and its state; scales and master are empty where there are none.
template <class W, class G, class M>
struct State {
  std::vector<W> weight;
  std::vector<G> grad;
  std::vector<M> exp_avg, exp_avg_sq;
  std::vector<float> exp_avg_scale, exp_avg_sq_scale, master;
  float step = 1;
  float weight_decay = 0;
};

int64_t scales_of(int64_t n) { return (n + kCodeBlock - 1) / kCodeBlock; }

template <class M>
std::vector<M> moments(Random& random, int64_t n, bool positive) {
  if constexpr (std::is_same_v<M, float>) {
    std::vector<M> values = random.reals<float>(n, 2.0f);
    if (positive) {
      for (float& value : values) value = std::abs(value);
    }
    return values;
  } else {
    std::vector<M> codes;
    for (const int32_t code : random.integers(n, 0, 256)) codes.push_back(static_cast<M>(code));
    return codes;
  }
}

template <class W, class G, class M>
State<W, G, M> random_state(uint64_t seed, int64_t n, bool with_master) {
  Random random(seed);
  State<W, G, M> s;
  s.weight = random.reals<W>(n, 3.0f);
  s.grad = random.reals<G>(n, 5.0f);
  s.exp_avg = moments<M>(random, n, false);
  s.exp_avg_sq = moments<M>(random, n, true);
  if (std::is_same_v<M, uint8_t>) {
    for (int64_t i = 0; i < scales_of(n); ++i) {
      s.exp_avg_scale.push_back(std::abs(random.real(2.0f)));
      s.exp_avg_sq_scale.push_back(std::abs(random.real(2.0f)));
    }
  }
  if (with_master) {
    for (const W w : s.weight) s.master.push_back(widen(w) * (1 + random.real(0.001f)));
    s.master[0] = 100;  // the weight was set by someone else
  }
  s.step = static_cast<float>(random.integer(1, 1000));
  s.weight_decay = std::abs(random.real(0.5f));
  return s;
}

// The step as adamw_math.h has it, element after element.
template <class W, class G>
void take_step(State<W, G, float>& s, std::size_t i, float w, const AdamWFactors& f) {
  adamw_update(w, widen(s.grad[i]), s.exp_avg[i], s.exp_avg_sq[i], f);
  s.weight[i] = narrow<W>(w);
  if (!s.master.empty()) s.master[i] = w;
}

template <class W, class G, class M>
void expect_step(State<W, G, M>& s, float lr, float clip) {
  const AdamWFactors f = adamw_factors(kSettings, lr, clip, s.weight_decay, s.step);
  const auto weight = [&](std::size_t i) {
    const float w = widen(s.weight[i]);
    return s.master.empty() ? w : master_of(s.master[i], w);
  };
  if constexpr (std::is_same_v<M, float>) {
    for (std::size_t i = 0; i < s.weight.size(); ++i) take_step(s, i, weight(i), f);
  } else {
    for (std::size_t begin = 0; begin < s.weight.size(); begin += kCodeBlock) {
      const std::size_t block = begin / kCodeBlock;
      const std::size_t count = std::min<std::size_t>(kCodeBlock, s.weight.size() - begin);
      std::vector<float> m(count), v(count);
      uint32_t most_m = 0, most_v = 0;
      for (std::size_t k = 0; k < count; ++k) {
        const std::size_t i = begin + k;
        m[k] = decode_mean(s.exp_avg[i], s.exp_avg_scale[block]);
        v[k] = decode_square(s.exp_avg_sq[i], s.exp_avg_sq_scale[block]);
        float w = weight(i);
        adamw_update(w, widen(s.grad[i]), m[k], v[k], f);
        s.weight[i] = narrow<W>(w);
        if (!s.master.empty()) s.master[i] = w;
        most_m = std::max(most_m, bits_of(m[k]) & 0x7fffffffu);
        most_v = std::max(most_v, bits_of(v[k]) & 0x7fffffffu);
      }
      s.exp_avg_scale[block] = float_of(most_m);
      s.exp_avg_sq_scale[block] = sqrtf(float_of(most_v));
      for (std::size_t k = 0; k < count; ++k) {
        s.exp_avg[begin + k] = encode_mean(m[k], inverse_scale(s.exp_avg_scale[block]));
        s.exp_avg_sq[begin + k] = encode_square(v[k], inverse_scale(s.exp_avg_sq_scale[block]));
      }
    }
  }
}

// The states' copy in the kernels' memory.
template <class W, class G, class M>
class OnDevice {
 public:
  OnDevice(const std::vector<State<W, G, M>>& states, Shifts shift) {
    for (const auto& s : states) {
      held_.push_back(std::make_unique<Held>(s, shift));
      const Held& h = *held_.back();
      const bool scales = !s.exp_avg_scale.empty();
      list_.push_back({h.weight.data(), h.grad.data(), h.exp_avg.data(), h.exp_avg_sq.data(),
                       scales ? h.exp_avg_scale.data() : nullptr,
                       scales ? h.exp_avg_sq_scale.data() : nullptr,
                       s.master.empty() ? nullptr : h.master.data(), h.step.data(),
                       static_cast<int64_t>(s.weight.size()), s.weight_decay});
    }
  }

  const std::vector<AdamWTensor<W, G, M>>& list() const { return list_; }

  // Of tensor i.
  auto values(std::size_t i) const {
    const Held& h = *held_[i];
    return std::tuple(h.weight.values(), h.exp_avg.values(), h.exp_avg_sq.values(),
                      h.exp_avg_scale.values(), h.exp_avg_sq_scale.values(), h.master.values());
  }

 private:
  struct Held {
    Held(const State<W, G, M>& s, Shifts shift)
        : weight(s.weight, shift(0)),
          grad(s.grad, shift(1)),
          exp_avg(s.exp_avg, shift(2)),
          exp_avg_sq(s.exp_avg_sq, shift(3)),
          exp_avg_scale(s.exp_avg_scale),
          exp_avg_sq_scale(s.exp_avg_sq_scale),
          master(s.master, shift(4)),
          step(std::vector<float>{s.step}) {}

    Buffer<W> weight;
    Buffer<G> grad;
    Buffer<M> exp_avg, exp_avg_sq;
    Buffer<float> exp_avg_scale, exp_avg_sq_scale, master, step;
  };

  std::vector<std::unique_ptr<Held>> held_;
  std::vector<AdamWTensor<W, G, M>> list_;
};

template <class W, class G, class M>
auto values_of(const State<W, G, M>& s) {
  return std::tuple(s.weight, s.exp_avg, s.exp_avg_sq, s.exp_avg_scale, s.exp_avg_sq_scale,
                    s.master);
}

template <class W, class G, class M>
void expect_kernel(std::vector<State<W, G, M>> states, Shifts shift, bool clipped) {
  const float lr = 0.01f, clip = clipped ? 0.37f : 1.0f;
  auto want = states;
  for (auto& s : want) expect_step(s, lr, clip);
  for (unsigned schedule = 0; schedule < schedules(); ++schedule) {
    choose_schedule(schedule);
    const OnDevice<W, G, M> device(states, shift);
    const Buffer<float> rate(std::vector<float>{lr}), factor(std::vector<float>{clip});
    const AdamWStep step{kSettings, rate.data(), clipped ? factor.data() : nullptr, nullptr};
    launch_adamw(device.list().data(), static_cast<int64_t>(states.size()), step, nullptr);
    for (std::size_t i = 0; i < states.size(); ++i) {
      EXPECT_TRUE(same_bits(device.values(i), values_of(want[i])))
          << "tensor " << i << " of " << states[i].weight.size() << " elements, " << shift
          << ", schedule " << schedule;
    }
  }
  choose_schedule(0);
}

template <class Types>
class AdamWTest : public KernelTest {};

template <class W_, class G_, class M_, bool kMaster_>
struct Types {
  using W = W_;
  using G = G_;
  using M = M_;
  static constexpr bool kMaster = kMaster_;
};

using AllTypes = ::testing::Types<
    Types<float, float, float, false>, Types<float, BFloat16, float, false>,
    Types<BFloat16, float, float, false>, Types<BFloat16, BFloat16, float, false>,
    Types<BFloat16, float, float, true>, Types<BFloat16, BFloat16, float, true>,
    Types<float, float, uint8_t, false>, Types<float, BFloat16, uint8_t, false>,
    Types<BFloat16, float, uint8_t, false>, Types<BFloat16, BFloat16, uint8_t, false>,
    Types<BFloat16, float, uint8_t, true>, Types<BFloat16, BFloat16, uint8_t, true>>;
TYPED_TEST_SUITE(AdamWTest, AllTypes);

TYPED_TEST(AdamWTest, TakesTheStepOfTheFormulaForEveryTensorOfTheList) {
  using T = TypeParam;
  for (const int64_t shift : {0, 1, 3}) {
    std::vector<State<typename T::W, typename T::G, typename T::M>> states;
    for (const int64_t n : kSizes) {
      states.push_back(random_state<typename T::W, typename T::G, typename T::M>(
          static_cast<uint64_t>(n), n, T::kMaster));
    }
    states.emplace_back();  // an empty one takes no part
    expect_kernel(states, shift, shift == 1);
  }
}

TYPED_TEST(AdamWTest, TakesTensorsOfSeveralBlocksAndListsOfSeveralTables) {
  using T = TypeParam;
  std::vector<State<typename T::W, typename T::G, typename T::M>> states;
  states.push_back(random_state<typename T::W, typename T::G, typename T::M>(
      1, (2 << 14) + 261, T::kMaster));  // two chunks and a rest
  for (uint64_t i = 0; i < 50; ++i) {
    states.push_back(random_state<typename T::W, typename T::G, typename T::M>(
        i, 1 + static_cast<int64_t>(i % 5), T::kMaster));
  }
  expect_kernel(states, 0, true);
}

TYPED_TEST(AdamWTest, AnyPointerMayBeTheOneThatIsNotAligned) {
  using T = TypeParam;
  const auto state = random_state<typename T::W, typename T::G, typename T::M>(7, 260, T::kMaster);
  for (int only = 0; only < 5; ++only) expect_kernel(std::vector{state}, {1, only}, true);
}

TYPED_TEST(AdamWTest, ABlockTakesChunksOneAfterTheOther) {
  using T = TypeParam;
  std::vector<State<typename T::W, typename T::G, typename T::M>> states;
  for (uint64_t i = 0; i < 4; ++i) {
    states.push_back(random_state<typename T::W, typename T::G, typename T::M>(
        i, 250 + 10 * static_cast<int64_t>(i), T::kMaster));
  }
  const FewBlocks few(1);
  expect_kernel(states, 0, true);
}

TYPED_TEST(AdamWTest, PassesOverEverythingWhereTheFlagIsSet) {
  using T = TypeParam;
  const auto state = random_state<typename T::W, typename T::G, typename T::M>(5, 700, T::kMaster);
  const OnDevice<typename T::W, typename T::G, typename T::M> device({state}, 0);
  const Buffer<float> rate(std::vector<float>{0.01f});
  const Buffer<int32_t> skip(std::vector<int32_t>{7});
  launch_adamw(device.list().data(), 1, {kSettings, rate.data(), nullptr, skip.data()}, nullptr);
  EXPECT_TRUE(same_bits(device.values(0), values_of(state)));
}

TYPED_TEST(AdamWTest, NumbersThatAreNotFiniteGiveTheFormulasBits) {
  using T = TypeParam;
  auto state = random_state<typename T::W, typename T::G, typename T::M>(6, 600, T::kMaster);
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const float odd[] = {
      std::numeric_limits<float>::quiet_NaN(), kInfinity, -kInfinity, -0.0f, 1e-42f, 3e38f};
  for (std::size_t i = 0; i < 6; ++i) {
    state.grad[i * 97] = narrow<typename T::G>(odd[i]);  // in several blocks of codes
    state.weight[i * 97 + 1] = narrow<typename T::W>(odd[i]);
  }
  auto want = state;
  expect_step(want, 0.01f, 1.0f);
  const OnDevice<typename T::W, typename T::G, typename T::M> device({state}, 0);
  const Buffer<float> rate(std::vector<float>{0.01f});
  launch_adamw(device.list().data(), 1, {kSettings, rate.data(), nullptr, nullptr}, nullptr);
  const auto as_floats = [](const auto& values) {
    std::vector<float> floats;
    for (const auto value : values) {
      if constexpr (std::is_same_v<std::decay_t<decltype(value)>, uint8_t>) {
        floats.push_back(value);
      } else {
        floats.push_back(widen(value));
      }
    }
    return same_nans(floats);
  };
  const auto got = device.values(0);
  EXPECT_TRUE(same_bits(as_floats(std::get<0>(got)), as_floats(want.weight)));
  EXPECT_TRUE(same_bits(as_floats(std::get<1>(got)), as_floats(want.exp_avg)));
  EXPECT_TRUE(same_bits(as_floats(std::get<2>(got)), as_floats(want.exp_avg_sq)));
  EXPECT_TRUE(same_bits(same_nans(std::get<3>(got)), same_nans(want.exp_avg_scale)));
  EXPECT_TRUE(same_bits(same_nans(std::get<4>(got)), same_nans(want.exp_avg_sq_scale)));
  EXPECT_TRUE(same_bits(same_nans(std::get<5>(got)), same_nans(want.master)));
}

class AdamWStepsTest : public KernelTest {};

TEST_F(AdamWStepsTest, ANumberThatIsNoneHasOneCodeWhateverItsSign) {
  for (const float scale : {1.0f, 0.0f}) {
    EXPECT_EQ(encode_mean(float_of(0xffc00000u), scale), encode_mean(float_of(0x7fc00000u), scale));
  }
  EXPECT_NE(encode_mean(-1.0f, 1.0f), encode_mean(1.0f, 1.0f));
}

TEST_F(AdamWStepsTest, AreCountedUnlessTheFlagIsSet) {
  for (const int32_t flag : {-1, 0, 3}) {  // -1: none
    std::vector<float> counts(600);
    for (std::size_t i = 0; i < counts.size(); ++i) counts[i] = static_cast<float>(i);
    const Buffer<float> device(counts);
    const Buffer<int32_t> skip(std::vector<int32_t>{flag});
    std::vector<float*> list;
    for (std::size_t i = 0; i < counts.size(); ++i) list.push_back(device.data() + i);
    launch_count_steps(list.data(), 600, flag < 0 ? nullptr : skip.data(), nullptr);
    for (float& count : counts) count += flag == 3 ? 0.0f : 1.0f;
    EXPECT_TRUE(same_bits(device.values(), counts)) << flag;
  }
}

}  // namespace
}  // namespace rev::cuda
