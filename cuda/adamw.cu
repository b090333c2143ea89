// A block takes a chunk of one tensor, a lane four consecutive elements at a time; where moments
// have eight bits eight, so that a warp takes the 256 elements that share a scale. Which tensor a
// chunk is of stands in a table that is an argument of the kernel: it lies in constant memory.
#include <algorithm>

#include "cuda/adamw.h"
#include "cuda/launch.h"
#include "cuda/warp.h"

namespace rev::cuda {
namespace {

constexpr int kPiece = 4;                          // elements that a lane has in flight
constexpr int kChunk = 1 << 14;                    // elements of a block
constexpr std::size_t kMostArguments = 4096 - 64;  // bytes; a kernel is passed 4096

// Whether weights of this type can have a master copy.
template <class W>
constexpr bool kHasMaster = false;
template <>
constexpr bool kHasMaster<BFloat16> = true;

struct StepTable {
  static constexpr int kMost = (kMostArguments - 16) / sizeof(float*);
  float* steps[kMost];
  int count;
};

__global__ void __launch_bounds__(kBlock)
    count_steps_kernel(const __grid_constant__ StepTable table, const int32_t* skip) {
  if (skip != nullptr && *skip != 0) return;
  for (int i = static_cast<int>(threadIdx.x); i < table.count; i += kBlock) *table.steps[i] += 1.0f;
}

template <class W, class G, class M>
struct Table {
  struct Entry {
    AdamWTensor<W, G, M> tensor;
    int first;  // of its chunks
  };
  static constexpr int kMost = (kMostArguments - sizeof(AdamWStep) - 16) / sizeof(Entry);
  Entry entries[kMost];
  int count;
  int chunks;
};

template <std::size_t kBytes>
struct Word;
template <>
struct Word<4> {
  using Type = uint32_t;
};
template <>
struct Word<8> {
  using Type = uint2;
};
template <>
struct Word<16> {
  using Type = uint4;
};

// How a lane reaches N consecutive elements: all in one access, or those below n one by one.
struct Reach {
  int64_t begin;  // of the chunk, an element of the tensor
  int i;          // of the first element, from there
  int n;          // of the chunk's elements
  bool wide;      // whether its arrays are aligned to 16 bytes

  template <int N, class T>
  __device__ void read(const T* p, T (&values)[N]) const {
    if (wide && i + N <= n) {
      using Access = typename Word<N * sizeof(T)>::Type;
      const Access word = *reinterpret_cast<const Access*>(p + begin + i);
      memcpy(values, &word, sizeof word);
    } else {
#pragma unroll
      for (int k = 0; k < N; ++k) values[k] = i + k < n ? p[begin + i + k] : T{};
    }
  }

  template <int N, class T>
  __device__ void write(T* p, const T (&values)[N]) const {
    if (wide && i + N <= n) {
      using Access = typename Word<N * sizeof(T)>::Type;
      Access word;
      memcpy(&word, values, sizeof word);
      *reinterpret_cast<Access*>(p + begin + i) = word;
    } else {
#pragma unroll
      for (int k = 0; k < N; ++k) {
        if (i + k < n) p[begin + i + k] = values[k];
      }
    }
  }
};

template <int N, class T>
__device__ __forceinline__ void read_floats(const Reach& at, const T* p, float (&values)[N]) {
  T raw[N];
  at.read(p, raw);
#pragma unroll
  for (int k = 0; k < N; ++k) values[k] = widen(raw[k]);
}

template <int N, class T>
__device__ __forceinline__ void write_floats(const Reach& at, T* p, const float (&values)[N]) {
  T raw[N];
#pragma unroll
  for (int k = 0; k < N; ++k) raw[k] = narrow<T>(values[k]);
  at.write(p, raw);
}

// The moments of a lane's elements, read and written piece by piece.
template <class M>
struct Moments;

template <>
struct Moments<float> {
  static constexpr int kPieces = 1;

  template <class Tensor>
  __device__ Moments(const Tensor&, int64_t) {}

  template <class Tensor>
  __device__ void read(const Tensor& t, const Reach& at, float (&m)[kPiece], float (&v)[kPiece]) {
    read_floats(at, t.exp_avg, m);
    read_floats(at, t.exp_avg_sq, v);
  }

  template <class Tensor>
  __device__ void write(const Tensor& t, const Reach& at, int, const float (&m)[kPiece],
                        const float (&v)[kPiece]) {
    write_floats(at, t.exp_avg, m);
    write_floats(at, t.exp_avg_sq, v);
  }

  template <class Tensor>
  __device__ void finish(const Tensor&, const Reach&) {}
};

// A warp's elements share the scales, which are known when all have been updated: until then the
// moments wait in shared memory, where each lane reads its own alone.
template <>
struct Moments<uint8_t> {
  static constexpr int kPieces = kCodeBlock / (kWarp * kPiece);

  template <class Tensor>
  __device__ Moments(const Tensor& t, int64_t first)
      : block(first / kCodeBlock),
        scale(t.exp_avg_scale[block]),
        root_scale(t.exp_avg_sq_scale[block]) {}

  template <class Tensor>
  __device__ void read(const Tensor& t, const Reach& at, float (&m)[kPiece], float (&v)[kPiece]) {
    uint8_t codes[kPiece];
    at.read(t.exp_avg, codes);
#pragma unroll
    for (int k = 0; k < kPiece; ++k) m[k] = decode_mean(codes[k], scale);
    at.read(t.exp_avg_sq, codes);
#pragma unroll
    for (int k = 0; k < kPiece; ++k) v[k] = decode_square(codes[k], root_scale);
  }

  template <class Tensor>
  __device__ void write(const Tensor&, const Reach& at, int piece, const float (&m)[kPiece],
                        const float (&v)[kPiece]) {
#pragma unroll
    for (int k = 0; k < kPiece; ++k) {
      waiting(piece, 0, k) = m[k];
      waiting(piece, 1, k) = v[k];
      if (at.i + k >= at.n) continue;
      largest_m = max(largest_m, bits_of(m[k]) & 0x7fffffffu);
      largest_v = max(largest_v, bits_of(v[k]) & 0x7fffffffu);
    }
  }

  // Magnitudes are compared by their bits, of which NaN has the largest.
  template <class Tensor>
  __device__ void finish(const Tensor& t, const Reach& at) {
    scale = float_of(__reduce_max_sync(kAll, largest_m));
    root_scale = sqrtf(float_of(__reduce_max_sync(kAll, largest_v)));
    const float inverse = inverse_scale(scale), root_inverse = inverse_scale(root_scale);
#pragma unroll
    for (int piece = 0; piece < kPieces; ++piece) {
      const Reach here{at.begin, at.i + piece * kPiece, at.n, at.wide};
      uint8_t codes[kPiece];
#pragma unroll
      for (int k = 0; k < kPiece; ++k) codes[k] = encode_mean(waiting(piece, 0, k), inverse);
      here.write(t.exp_avg, codes);
#pragma unroll
      for (int k = 0; k < kPiece; ++k) codes[k] = encode_square(waiting(piece, 1, k), root_inverse);
      here.write(t.exp_avg_sq, codes);
    }
    __syncwarp();  // all lanes have read the scales
    if (threadIdx.x % kWarp == 0) {
      t.exp_avg_scale[block] = scale;
      t.exp_avg_sq_scale[block] = root_scale;
    }
  }

  __device__ static float& waiting(int piece, int moment, int k) {
    __shared__ float all[kPieces][2][kPiece][kBlock];
    return all[piece][moment][k][threadIdx.x];
  }

  int64_t block;
  float scale, root_scale;
  uint32_t largest_m = 0, largest_v = 0;
};

template <class W, class G, class M>
__device__ __forceinline__ bool allows_wide(const AdamWTensor<W, G, M>& t) {
  const uintptr_t all =
      reinterpret_cast<uintptr_t>(t.weight) | reinterpret_cast<uintptr_t>(t.grad) |
      reinterpret_cast<uintptr_t>(t.exp_avg) | reinterpret_cast<uintptr_t>(t.exp_avg_sq) |
      reinterpret_cast<uintptr_t>(t.master);
  return (all & 15) == 0;
}

template <class W, class G, class M>
__global__ void __launch_bounds__(kBlock, 4)
    adamw_kernel(const __grid_constant__ Table<W, G, M> table, const AdamWStep step) {
  if (step.skip != nullptr && *step.skip != 0) return;
  for (int chunk = static_cast<int>(blockIdx.x); chunk < table.chunks;
       chunk += static_cast<int>(gridDim.x)) {
    const auto& entry = table.entries[entry_of(table.entries, table.count, chunk)];
    const int64_t begin = int64_t{chunk - entry.first} * kChunk;
    const AdamWTensor<W, G, M>& t = entry.tensor;
    const int n = static_cast<int>(min(t.n - begin, int64_t{kChunk}));
    const bool wide = allows_wide(t);
    const AdamWFactors factors = adamw_factors(
        step.settings, *step.lr, step.clip != nullptr ? *step.clip : 1.0f, t.weight_decay, *t.step);
    constexpr int kEach = Moments<M>::kPieces * kPiece;  // of a lane at a time
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
#pragma unroll 1  // what a lane has in flight is enough, and more would spill
    for (int first = (static_cast<int>(threadIdx.x) - lane) * kEach; first < n;
         first += kBlock * kEach) {
      const Reach at{begin, first + lane * kEach, n, wide};
      Moments<M> moments(t, begin + first);
#pragma unroll
      for (int piece = 0; piece < Moments<M>::kPieces; ++piece) {
        const Reach here{at.begin, at.i + piece * kPiece, n, wide};
        float w[kPiece], g[kPiece], m[kPiece], v[kPiece];
        read_floats(here, t.weight, w);
        read_floats(here, t.grad, g);
        moments.read(t, here, m, v);
        if (kHasMaster<W> && t.master != nullptr) {
          float master[kPiece];
          read_floats(here, t.master, master);
#pragma unroll
          for (int k = 0; k < kPiece; ++k) w[k] = master_of(master[k], w[k]);
        }
#pragma unroll
        for (int k = 0; k < kPiece; ++k) adamw_update(w[k], g[k], m[k], v[k], factors);
        write_floats(here, t.weight, w);
        if (kHasMaster<W> && t.master != nullptr) write_floats(here, t.master, w);
        moments.write(t, here, piece, m, v);
      }
      moments.finish(t, at);
    }
  }
}

}  // namespace

void launch_count_steps(float* const* steps, int64_t count, const int32_t* skip, Stream stream) {
  for (int64_t first = 0; first < count; first += StepTable::kMost) {
    StepTable table{};
    table.count = static_cast<int>(std::min<int64_t>(count - first, StepTable::kMost));
    std::copy_n(steps + first, table.count, table.steps);
    launch(count_steps_kernel, 1u, stream, table, skip);
  }
}

template <class W, class G, class M>
void launch_adamw(const AdamWTensor<W, G, M>* tensors, int64_t count, const AdamWStep& step,
                  Stream stream) {
  using List = Table<W, G, M>;
  static_assert(sizeof(List) + sizeof(AdamWStep) <= kMostArguments);
  List table{};
  const auto flush = [&] {
    if (table.chunks != 0) {
      launch(adamw_kernel<W, G, M>, blocks_for(table.chunks, 1), stream, table, step);
    }
    table = List{};
  };
  for (int64_t i = 0; i < count; ++i) {
    if (tensors[i].n == 0) continue;
    const int64_t chunks = (tensors[i].n + kChunk - 1) / kChunk;
    if (table.count == List::kMost) flush();
    table.entries[table.count++] = {tensors[i], table.chunks};
    table.chunks += static_cast<int>(chunks);
  }
  flush();
}

#define REV_ADAMW(W, G, M)                                                                    \
  template void launch_adamw<W, G, M>(const AdamWTensor<W, G, M>*, int64_t, const AdamWStep&, \
                                      Stream);
REV_ADAMW(float, float, float)
REV_ADAMW(float, BFloat16, float)
REV_ADAMW(BFloat16, float, float)
REV_ADAMW(BFloat16, BFloat16, float)
REV_ADAMW(float, float, uint8_t)
REV_ADAMW(float, BFloat16, uint8_t)
REV_ADAMW(BFloat16, float, uint8_t)
REV_ADAMW(BFloat16, BFloat16, uint8_t)
#undef REV_ADAMW

}  // namespace rev::cuda
