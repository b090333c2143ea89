#include "cuda/launch.h"
#include "emulator/kernels.h"

namespace rev::emulator {
namespace {

using cuda::launch;
using cuda::Shape;

constexpr unsigned kAll = 0xffffffffu;

__global__ void barriers_in_two_branches_kernel(int* x) {
  if (threadIdx.x < 16) {
    __syncthreads();
  } else {
    __syncthreads();
  }
  x[threadIdx.x] = 1;
}

__global__ void return_before_a_barrier_kernel(int* x) {
  if (threadIdx.x >= 40) return;
  __syncthreads();
  x[threadIdx.x] = 1;
}

__global__ void return_before_a_shuffle_kernel(int* x) {
  if (threadIdx.x == 5) return;
  x[threadIdx.x] = __shfl_xor_sync(kAll, 1, 1);
}

__global__ void warp_barrier_beside_block_barrier_kernel(int* x) {
  if (threadIdx.x == 3) {
    __syncthreads();
  } else {
    __syncwarp();
  }
  x[threadIdx.x] = 1;
}

__global__ void mask_without_the_caller_kernel(int* x) {
  x[threadIdx.x] = __shfl_sync(0xfffffffeu, 1, 1);
}

__global__ void mask_of_missing_lanes_kernel(int* x) {
  x[threadIdx.x] = __any_sync(kAll, 1);  // the last warp has 8 lanes
}

__global__ void shuffle_from_outside_the_mask_kernel(int* x) {
  if (threadIdx.x < 16) x[threadIdx.x] = __shfl_sync(0xffffu, 1, 20);
}

__global__ void one_mask_at_two_places_kernel(int* x) {
  if (threadIdx.x % 2 == 0) {
    x[threadIdx.x] = __shfl_xor_sync(kAll, 1, 1);
  } else {
    x[threadIdx.x] = __shfl_xor_sync(kAll, 1, 1);
  }
}

__global__ void write_one_kernel(int* x) {
  if (threadIdx.x < kThreads) x[threadIdx.x] = 1;
}

__global__ void launch_within_a_kernel_kernel(int* x) { launch(write_one_kernel, 1, nullptr, x); }

__global__ void read_beyond_global_memory_kernel(int* x) { x[threadIdx.x] = x[threadIdx.x + 1]; }

__global__ void write_before_global_memory_kernel(int* x) {
  x[static_cast<int>(threadIdx.x) - 1] = 1;
}

__global__ void write_beyond_static_shared_memory_kernel(int* x, int n) {
  __shared__ int shared[kThreads];
  int* const all = shared;
  all[threadIdx.x + n] = 1;
  __syncthreads();
  x[threadIdx.x] = shared[threadIdx.x];
}

template <int N>
__device__ int neighbour(int value, int distance) {
  __shared__ int shared[N];
  int* const all = shared;
  all[threadIdx.x] = value;
  __syncthreads();
  return all[threadIdx.x + distance];
}

__global__ void read_beyond_shared_memory_of_a_template_kernel(int* x, int distance) {
  x[threadIdx.x] = neighbour<kThreads>(1, distance) + neighbour<kThreads + 1>(1, 0);
}

__global__ void write_beyond_dynamic_shared_memory_kernel(int* x, int n) {
  REV_DYNAMIC_SHARED(int, shared);
  shared[threadIdx.x + n] = 1;
  __syncthreads();
  x[threadIdx.x] = 1;
}

__global__ void misaligned_vector_kernel(int* x) {
  if (threadIdx.x == 0) *reinterpret_cast<int4*>(x + 1) = int4{1, 1, 1, 1};
}

__global__ void shared_memory_without_a_barrier_kernel(int* x) {
  __shared__ int shared[kThreads];
  shared[threadIdx.x] = 1;
  x[threadIdx.x] = shared[threadIdx.x ^ 32];
}

__global__ void shared_memory_used_again_without_a_barrier_kernel(int* x) {
  __shared__ int shared[kThreads];
  int sum = 0;
  for (int i = 0; i < 2; ++i) {
    shared[threadIdx.x] = i;
    __syncthreads();
    sum += shared[threadIdx.x ^ 32];
  }
  x[threadIdx.x] = sum;
}

__global__ void shuffle_taken_for_a_barrier_kernel(int* x) {
  __shared__ int shared[kThreads];
  shared[threadIdx.x] = 1;
  const int one = __shfl_xor_sync(kAll, 1, 1);
  x[threadIdx.x] = one + shared[threadIdx.x ^ 1];
}

__global__ void warp_barrier_of_half_the_warp_kernel(int* x) {
  __shared__ int shared[kThreads];
  shared[threadIdx.x] = 1;
  __syncwarp(threadIdx.x % 32 < 16 ? 0xffffu : 0xffff0000u);
  x[threadIdx.x] = shared[threadIdx.x ^ 16];
}

__global__ void warp_barrier_between_warps_kernel(int* x) {
  __shared__ int shared[kThreads];
  shared[threadIdx.x] = 1;
  __syncwarp();
  x[threadIdx.x] = shared[threadIdx.x ^ 32];
}

__global__ void all_threads_write_one_number_kernel(int* x) { x[0] = 1; }

__global__ void block_reads_what_another_wrote_kernel(int* x) {
  if (threadIdx.x != 0) return;
  if (blockIdx.x == 0) x[0] = 1;
  if (blockIdx.x == 1) x[1] = x[0];
}

__global__ void block_writes_what_another_read_kernel(int* x) {
  if (threadIdx.x != 0) return;
  if (blockIdx.x == 0) x[1] = x[0];
  if (blockIdx.x == 1) x[0] = 1;
}

__global__ void plain_read_beside_atomics_kernel(int* x) {
  atomicAdd(x, 1);
  if (threadIdx.x == 7) x[1] = x[0];
}

__global__ void shared_memory_that_nobody_wrote_kernel(int* x) {
  __shared__ int shared[kThreads];
  if (threadIdx.x != 9) shared[threadIdx.x] = 1;
  __syncthreads();
  x[threadIdx.x] = shared[threadIdx.x];
}

__global__ void shared_memory_of_the_block_before_kernel(int* x) {
  REV_DYNAMIC_SHARED(int, shared);
  if (blockIdx.x == 0) shared[threadIdx.x] = 1;
  __syncthreads();
  if (blockIdx.x == 1) x[threadIdx.x] = shared[threadIdx.x];
}

__global__ void through_dynamic_shared_memory_kernel(int* x) {
  REV_DYNAMIC_SHARED(int, shared);
  shared[threadIdx.x + (99 << 8)] = static_cast<int>(threadIdx.x);
  __syncthreads();
  x[threadIdx.x] = shared[(threadIdx.x ^ 33) + (99 << 8)];
  x[threadIdx.x] = (x[threadIdx.x] ^ 33) + 1;
}

__global__ void count_by_atomics_kernel(int* x) { atomicAdd(x + threadIdx.x, 1); }

__global__ void halves_of_warps_kernel(int* x) {
  int value = static_cast<int>(threadIdx.x);
  if (threadIdx.x % 32 < 16) {
    value = __shfl_xor_sync(0xffffu, value, 1);
  } else {
    value = __shfl_xor_sync(0xffff0000u, value, 2);
  }
  __syncwarp();
  x[threadIdx.x] = value;
}

__global__ void masks_that_overlap_kernel(int* x) {
  const unsigned lane = threadIdx.x % 32;
  if (lane == 1 || lane == 2) __syncwarp(6u);
  if (lane == 0 || lane == 1) __syncwarp(3u);
  x[threadIdx.x] = 1;
}

__global__ void exchange_within_warps_kernel(int* x) {
  __shared__ int shared[kThreads];
  const int i = static_cast<int>(threadIdx.x);
  for (int time = 0; time < 3; ++time) {
    shared[i] = i + time;
    __syncwarp();
    x[i] = shared[i ^ 1] - time;
    __syncwarp();
  }
}

__global__ void exchanges_kernel(uint32_t* x) {
  const unsigned i = threadIdx.x, lane = i % 32;
  const int whole = static_cast<int>(i) - 20;
  uint32_t* const out = x + i;
  int n = 0;
  const auto put = [&](uint32_t value) { out[kThreads * n++] = value; };
  put(__shfl_sync(kAll, i, 3));
  put(__shfl_sync(kAll, i, 35, 8));
  put(__shfl_up_sync(kAll, i, 2));
  put(__shfl_up_sync(kAll, i, 2, 8));
  put(__shfl_down_sync(kAll, i, 1));
  put(__shfl_down_sync(kAll, i, 3, 16));
  put(__shfl_xor_sync(kAll, i, 5));
  put(__shfl_xor_sync(kAll, i, 12, 8));
  put(__ballot_sync(kAll, lane % 3 == 0));
  put(__any_sync(kAll, i == 40));
  put(__all_sync(kAll, i != 40));
  put(__reduce_add_sync(kAll, i));
  put(static_cast<uint32_t>(__reduce_min_sync(kAll, whole)));
  put(static_cast<uint32_t>(__reduce_max_sync(kAll, whole)));
  put(__reduce_min_sync(kAll, static_cast<unsigned>(whole)));
  put(__reduce_and_sync(kAll, i | 64u) + __reduce_or_sync(kAll, i) + __reduce_xor_sync(kAll, i));
  put(static_cast<uint32_t>(__syncthreads_count(i < 7)));
  put(static_cast<uint32_t>(__syncthreads_or(i == 63)));
  put(static_cast<uint32_t>(__syncthreads_and(i != 63)));
  put(static_cast<uint32_t>(__shfl_xor_sync(kAll, uint64_t{i} << 33, 1) >> 33));
}

__global__ void three_dimensions_kernel(int* x) {
  const unsigned i = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  x[i] = threadIdx.x == i % 4 && threadIdx.y == i / 4 % 4 && threadIdx.z == i / 16;
}

// One block of kThreads threads.
template <class... A>
void launch_one(void (*kernel)(A...), A... arguments) {
  launch(kernel, Shape{1, kThreads}, nullptr, arguments...);
}

}  // namespace

#define REV_LAUNCHER(name) \
  void name(int* x) { launch_one(name##_kernel, x); }
REV_LAUNCHER(barriers_in_two_branches)
REV_LAUNCHER(return_before_a_barrier)
REV_LAUNCHER(return_before_a_shuffle)
REV_LAUNCHER(warp_barrier_beside_block_barrier)
REV_LAUNCHER(mask_without_the_caller)
REV_LAUNCHER(shuffle_from_outside_the_mask)
REV_LAUNCHER(one_mask_at_two_places)
REV_LAUNCHER(launch_within_a_kernel)
REV_LAUNCHER(read_beyond_global_memory)
REV_LAUNCHER(write_before_global_memory)
REV_LAUNCHER(misaligned_vector)
REV_LAUNCHER(shared_memory_without_a_barrier)
REV_LAUNCHER(shared_memory_used_again_without_a_barrier)
REV_LAUNCHER(shuffle_taken_for_a_barrier)
REV_LAUNCHER(warp_barrier_of_half_the_warp)
REV_LAUNCHER(warp_barrier_between_warps)
REV_LAUNCHER(all_threads_write_one_number)
REV_LAUNCHER(plain_read_beside_atomics)
REV_LAUNCHER(shared_memory_that_nobody_wrote)
REV_LAUNCHER(halves_of_warps)
REV_LAUNCHER(masks_that_overlap)
REV_LAUNCHER(exchange_within_warps)

void mask_of_missing_lanes(int* x) {
  launch(mask_of_missing_lanes_kernel, Shape{1, 40}, nullptr, x);
}

void launch_of_size(int* x, unsigned blocks, unsigned threads, unsigned shared_bytes) {
  launch(write_one_kernel, Shape{blocks, threads, shared_bytes}, nullptr, x);
}

void write_beyond_static_shared_memory(int* x) {
  launch_one(write_beyond_static_shared_memory_kernel, x, 1);
}

void read_beyond_shared_memory_of_a_template(int* x) {
  launch_one(read_beyond_shared_memory_of_a_template_kernel, x, 1);
}

void write_beyond_dynamic_shared_memory(int* x) {
  launch(write_beyond_dynamic_shared_memory_kernel, Shape{1, kThreads, kThreads * sizeof(int)},
         nullptr, x, 1);
}

void block_reads_what_another_wrote(int* x) {
  launch(block_reads_what_another_wrote_kernel, 2, nullptr, x);
}

void block_writes_what_another_read(int* x) {
  launch(block_writes_what_another_read_kernel, 2, nullptr, x);
}

void shared_memory_of_the_block_before(int* x) {
  launch(shared_memory_of_the_block_before_kernel, Shape{2, kThreads, kThreads * sizeof(int)},
         nullptr, x);
}

void through_dynamic_shared_memory(int* x) {
  launch(through_dynamic_shared_memory_kernel, Shape{1, kThreads, 100 << 10}, nullptr, x);
}

void count_by_atomics(int* x, unsigned blocks) {
  launch(count_by_atomics_kernel, Shape{blocks, kThreads}, nullptr, x);
}

void exchanges(uint32_t* x) { launch_one(exchanges_kernel, x); }

void three_dimensions(int* x) {
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(1);
  config.blockDim = dim3(4, 4, 4);
  REV_CUDA_CHECK(cudaLaunchKernelEx(&config, three_dimensions_kernel, x));
}

}  // namespace rev::emulator
