// Where the tests of the kernels run: on the emulator (emulated.cpp) or on a GPU (gpu.cpp), by
// which of the two is linked.
#pragma once

#include <cstddef>
#include <string>

namespace rev::cuda::testing {

/// Why kernels cannot run here; empty where they can.
std::string missing_device();

/// In how many orders of threads a kernel can be run.
unsigned schedules();

/// Chooses the order for the launches from here on, below schedules().
void choose_schedule(unsigned schedule);

/// The most blocks that launches from here on get, where that can be chosen; 0: as many as they ask
/// for.
void limit_blocks(unsigned most);

/// Memory for kernels: `bytes` of 0xff, `offset` bytes after an address that is aligned to 16. An
/// access before its first or after its last byte is an error where AddressSanitizer looks on.
void* allocate(std::size_t bytes, std::size_t offset);

/// Frees it. Returns whether the bytes around it are as they were.
bool release(void* memory);

/// Copies to and from such memory, after the work that was queued.
void copy_to_device(void* to, const void* from, std::size_t bytes);
void copy_from_device(void* to, const void* from, std::size_t bytes);

}  // namespace rev::cuda::testing
