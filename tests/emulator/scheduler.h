// The threads of the block that runs.
#pragma once

#include <cstdint>
#include <cuda_runtime.h>
#include <string>

#include "emulator/site.h"

namespace rev::emulator {

constexpr unsigned kWarpLanes = 32;

/// What the lanes of a warp that meet bring and take. Unused lanes are zero.
struct Meeting {
  unsigned mask = 0;
  uint64_t brought[kWarpLanes] = {};
  int argument[kWarpLanes] = {};
  uint64_t taken[kWarpLanes] = {};
};

/// Fills `taken` for the lanes of the mask.
using Combine = void (*)(Meeting& meeting);

enum class State { kReady, kInWarp, kAtBarrier, kDone };

/// A thread of a block, and what it waits for.
struct Thread {
  uint3 index;      // threadIdx
  unsigned number;  // in the block; 32 consecutive ones are a warp
  State state;
  Site site;        // where it waits
  unsigned mask;    // kInWarp: for which lanes
  Combine combine;  // kInWarp: to do what
  uint64_t value;   // what it brings, then what it takes
  int argument;

  unsigned lane() const { return number % kWarpLanes; }
  unsigned warp() const { return number / kWarpLanes; }
};

/// What runs now: the kernel's view of itself.
struct Here {
  Thread* thread = nullptr;  // null outside kernels
  uint3 thread_index{};      // threadIdx
  uint3 block{};             // blockIdx
  dim3 block_size;           // blockDim
  dim3 grid_size;            // gridDim
};
extern Here here;

/// The thread of this number in the block.
Thread& thread_of_block(unsigned number);

/// Threads in the block.
unsigned threads_in_block();

/// Lets others run until the thread is made ready again.
void wait(State state, const Site& site);

/// Ends the launch: throws Error with `message` and the thread that runs, on its own stack, from
/// where it gets to the launch.
[[noreturn]] void fail(const std::string& message);

/// The same where nothing may be thrown: what is on the thread's stack is never destroyed.
[[noreturn]] void abandon(const std::string& message);

/// Whether this is memory of the emulator (stacks, threads), not of the kernel's data.
bool is_own_memory(const void* address);

/// Whether this is the block's shared memory: static storage, or what dynamic_shared gives.
bool is_shared_memory(const void* address);

}  // namespace rev::emulator
