// How the CPU path's loops are compiled and shared out.
#pragma once

#include <cstdint>

// The compiler makes one body for each vector width and chooses at load time; what a body calls
// becomes part of it, since a function beside it would be made for the oldest of processors. The
// sanitizers cannot live with that choice (it runs before they do).
#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__)
#define REV_VECTOR_WIDTHS \
  __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default"), flatten))
#else
#define REV_VECTOR_WIDTHS
#endif

namespace rev::kernels {

/// Below this many elements a thread costs more than it saves.
constexpr int64_t kGrain = 1 << 14;

}  // namespace rev::kernels
