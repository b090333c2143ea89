#include "rev/kernels/dropout.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <algorithm>
#include <cmath>
#include <mutex>

#include "cuda/dropout.h"
#include "cuda/philox_math.h"
#include "kernels/device.h"
#include "kernels/generator.h"
#include "kernels/vectors.h"
#include "rev/kernels/dtype.h"

namespace rev::kernels {
namespace {

using at::Tensor;
using cuda::BFloat16;

constexpr int64_t kGroup = 4;  // numbers of a counter
constexpr int kGroups = 64;    // counters at a time: some vectors
constexpr int64_t kChunk = kGroup * kGroups;

// The numbers of kGroups groups from `first` on. Rounds outside, groups inside: so they are
// vectors.
[[gnu::always_inline]] inline void draw(uint32_t (&numbers)[kChunk], uint64_t seed, uint64_t offset,
                                        uint64_t first) {
  const auto k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
  uint32_t x[kGroups], y[kGroups], z[kGroups], w[kGroups];
  for (int g = 0; g < kGroups; ++g) {
    cuda::philox_counter(offset, first + static_cast<uint64_t>(g), x[g], y[g], z[g], w[g]);
  }
  for (uint32_t round = 0; round < cuda::kPhiloxRounds; ++round) {
    for (int g = 0; g < kGroups; ++g) {
      cuda::philox_round(x[g], y[g], z[g], w[g], k0, k1, round);
    }
  }
  for (int g = 0; g < kGroups; ++g) {
    numbers[4 * g] = x[g];
    numbers[4 * g + 1] = y[g];
    numbers[4 * g + 2] = z[g];
    numbers[4 * g + 3] = w[g];
  }
}

// body(i, n, numbers): elements i to i + n - 1 of a range of chunks, n = kChunk but for the last.
template <class Body>
[[gnu::always_inline]] inline void for_chunks(int64_t begin, int64_t end, const Philox& from,
                                              const Body& body) {
  for (int64_t i = begin; i < end; i += kChunk) {
    uint32_t numbers[kChunk];
    draw(numbers, static_cast<uint64_t>(from.seed), static_cast<uint64_t>(from.offset),
         static_cast<uint64_t>(i / kGroup));
    body(i, std::min(kChunk, end - i), numbers);
  }
}

template <class T>
[[gnu::always_inline]] inline void drop_range(T* y, const T* x, int64_t begin, int64_t end,
                                              cuda::Kept kept, const Philox& from) {
  for_chunks(begin, end, from, [=](int64_t i, int64_t n, const uint32_t* numbers) {
    if (n == kChunk) {
      for (int64_t j = 0; j < kChunk; ++j) {
        y[i + j] = cuda::narrow<T>(cuda::keep_scaled(cuda::widen(x[i + j]), numbers[j], kept));
      }
    } else {
      for (int64_t j = 0; j < n; ++j) {
        y[i + j] = cuda::narrow<T>(cuda::keep_scaled(cuda::widen(x[i + j]), numbers[j], kept));
      }
    }
  });
}

REV_VECTOR_WIDTHS void drop(float* y, const float* x, int64_t begin, int64_t end, cuda::Kept kept,
                            const Philox& from) {
  drop_range(y, x, begin, end, kept, from);
}

REV_VECTOR_WIDTHS void drop(BFloat16* y, const BFloat16* x, int64_t begin, int64_t end,
                            cuda::Kept kept, const Philox& from) {
  drop_range(y, x, begin, end, kept, from);
}

REV_VECTOR_WIDTHS void mark(uint8_t* mask, int64_t begin, int64_t end, uint32_t threshold,
                            const Philox& from) {
  for_chunks(begin, end, from, [=](int64_t i, int64_t n, const uint32_t* numbers) {
    for (int64_t j = 0; j < n; ++j) mask[i + j] = numbers[j] < threshold ? 1 : 0;
  });
}

// Runs body(begin, end) over n elements, in whole chunks.
template <class Body>
void in_parallel(int64_t n, const Body& body) {
  const int64_t chunks = (n + kChunk - 1) / kChunk;
  constexpr int64_t kGrainChunks = kGrain / 4 / kChunk;  // a number costs some ten operations
  at::parallel_for(0, chunks, kGrainChunks, [&](int64_t begin, int64_t end) {
    body(begin * kChunk, std::min(end * kChunk, n));
  });
}

void check_probability(const char* op, double p) {
  TORCH_CHECK(p >= 0 && p < 1, op, ": the probability is ", p, ", expected 0 <= p < 1");
}

void check_numbers(const char* op, c10::Device device, const Philox& from) {
  TORCH_CHECK(!device.is_cpu() || from.offset_at == nullptr, op,
              ": on the CPU the offset is a value, not a pointer to device memory");
}

// Never 2^32: with p = 0 nothing is drawn.
cuda::Kept kept_with(double p) {
  const double threshold = std::rint((1 - p) * 0x1p32);
  return {static_cast<uint32_t>(std::min(threshold, 0x1p32 - 1)), static_cast<float>(1 / (1 - p))};
}

cuda::Philox on_device_of(const Philox& from) {
  return {static_cast<uint64_t>(from.seed), static_cast<uint64_t>(from.offset), from.offset_at};
}

}  // namespace

Philox draw_philox(c10::Device device) {
  if (device.is_cuda()) return draw_on_cuda(device);
  check_type_of_device("draw_philox", device);
  at::Generator generator = at::detail::getDefaultCPUGenerator();
  const std::lock_guard<std::mutex> lock(generator.mutex());
  return {static_cast<int64_t>(at::check_generator<at::CPUGeneratorImpl>(generator)->random64())};
}

Tensor philox_dropout(const Tensor& x, double p, const Philox& from) {
  check_probability("philox_dropout", p);
  TORCH_CHECK(is_kernel_float(x.scalar_type()),
              "philox_dropout: expected float32 or bfloat16, got ", x.scalar_type());
  check_numbers("philox_dropout", x.device(), from);
  const Tensor in = x.detach().contiguous();
  if (p == 0) return in.clone();
  Tensor out = at::empty(in.sizes(), in.options());
  const int64_t n = in.numel();
  const cuda::Kept kept = kept_with(p);
  const auto with_elements = [&](const auto& body) {
    with_float(in, [&](const auto* elements) {
      using T = std::remove_const_t<std::remove_pointer_t<decltype(elements)>>;
      body(static_cast<T*>(out.mutable_data_ptr()), elements);
    });
  };
  const auto launch = [&](auto stream) {
    with_elements([&](auto* y, const auto* elements) {
      cuda::launch_dropout(y, elements, n, kept, on_device_of(from), stream);
    });
  };
  if (on_device("philox_dropout", in, launch)) return out;
  with_elements([&](auto* y, const auto* elements) {
    in_parallel(n, [&](int64_t begin, int64_t end) { drop(y, elements, begin, end, kept, from); });
  });
  return out;
}

Tensor philox_mask(at::IntArrayRef sizes, double p, const Philox& from, c10::Device device) {
  check_probability("philox_mask", p);
  check_numbers("philox_mask", device, from);
  Tensor mask = at::empty(sizes, at::TensorOptions(device).dtype(at::kBool));
  if (p == 0) return mask.fill_(true);
  auto* bytes = static_cast<uint8_t*>(mask.mutable_data_ptr());
  const int64_t n = mask.numel();
  const uint32_t threshold = kept_with(p).threshold;
  const auto launch = [&](auto stream) {
    cuda::launch_dropout_mask(bytes, n, threshold, on_device_of(from), stream);
  };
  if (on_device("philox_mask", mask, launch)) return mask;
  in_parallel(n, [&](int64_t begin, int64_t end) { mark(bytes, begin, end, threshold, from); });
  return mask;
}

}  // namespace rev::kernels
