// The race finder, in programs whose kernels are compiled with -fsanitize=thread and which link
// races.cpp; elsewhere no_races.cpp makes nothing of these.
//
// The compiler then calls __tsan_read4 and the like at each access. Of each byte the last write and
// two reads are kept, with when and by which thread. Within a block __syncthreads orders all that
// its threads did; __syncwarp orders the lanes of its mask; a shuffle orders nothing, as on a GPU.
// Blocks of a launch are never ordered, launches always. A kernel that waits for other blocks by
// atomics is therefore reported, and so are two threads that write the same value.
#pragma once

#include <cstddef>
#include <cstdint>

namespace rev::emulator::races {

void start_launch();
void start_block();

/// All threads of the block passed a barrier.
void block_barrier();

/// The lanes of the mask, in the warp of the thread that runs, passed a __syncwarp.
void warp_barrier(unsigned mask);

/// The thread that runs reads and writes in one step. `code` is an address in the kernel.
void atomic_access(const void* address, std::size_t bytes, const void* code);

/// Bytes of global memory that kernels read and wrote, each as often as they did; what an atomic
/// operation touches is both.
struct Traffic {
  uint64_t read = 0;
  uint64_t written = 0;
};

/// The traffic since the last call.
Traffic take_traffic();

}  // namespace rev::emulator::races
