// Runs CUDA kernels on the CPU, from the source that nvcc compiles: g++ -x c++ -include this file.
//
// One fiber is a thread, and one block runs at a time, on the thread that launches: launches return
// when the kernel is done. What a kernel does wrong is thrown as emulator::Error from its launch,
// with the kernel's file and line:
//   barriers that not all threads reach, or that threads reach at different places;
//   masks without the caller or with lanes that do not exist, shuffles from lanes outside the mask;
//   sizes that a GPU refuses.
// Compiled with AddressSanitizer, accesses beyond global and shared arrays stop the program; the
// race finder (races.h) adds races and reads of shared memory that the block never wrote.
//
// What it cannot tell: speed, occupancy, bank conflicts, the order of memory without barriers (a
// fence does nothing), warps that CUDA forms otherwise than by 32 consecutive threads. Kernels have
// no mutable __device__ variables, and lie in anonymous namespaces with their templates, so that
// the sanitizer guards each shared array.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <cuda_runtime.h>

#include "emulator/launch.h"
#include "emulator/scheduler.h"

// The language. The toolkit's headers make __global__, __device__ and __host__ empty under g++.
#undef __shared__
#define __shared__ static
#undef __launch_bounds__
#define __launch_bounds__(...)
inline const uint3& threadIdx = rev::emulator::here.thread_index;
inline const uint3& blockIdx = rev::emulator::here.block;
inline const dim3& blockDim = rev::emulator::here.block_size;
inline const dim3& gridDim = rev::emulator::here.grid_size;
constexpr int warpSize = 32;

// Launches.
#define REV_DYNAMIC_SHARED(T, name) \
  T* const name = static_cast<T*>(::rev::emulator::dynamic_shared())
#define cudaLaunchKernelEx ::rev::emulator::launch_kernel

// What device code calls.
#include "emulator/arithmetic.h"
#include "emulator/atomics.h"
#include "emulator/collectives.h"
#include "emulator/memory.h"
