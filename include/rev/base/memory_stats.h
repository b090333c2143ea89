#pragma once

#include <cstdint>

namespace rev::base {

/// Bytes of tensors that live in host memory, counted at LibTorch's CPU allocator.
///
/// Counting starts with the first call of `count_memory`; what was allocated before is not seen.
/// Sizes are those that the C library set aside, at most a few words above what was asked for.
struct MemoryStats {
  int64_t live_bytes = 0;
  int64_t peak_bytes = 0;  ///< largest `live_bytes` since counting began or `reset_peak_memory`
};

/// Makes LibTorch's CPU allocations countable. Idempotent; call it before the first tensor.
void count_memory();

MemoryStats memory_stats();

/// Sets the peak to what is alive now.
void reset_peak_memory();

}  // namespace rev::base
