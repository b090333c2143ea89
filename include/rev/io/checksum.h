#pragma once

#include <cstddef>
#include <cstdint>

namespace rev::io {

/// XXH64 with seed 0 of a range of bytes: a 64-bit checksum against damage, not against intent, at
/// about the speed of memory. `xxhsum -H1 FILE` prints the same number.
///
/// Four sums run side by side over 32-byte stripes, each by s = rotl(s + w P2, 31) P1 for its
/// 8-byte word w; they are merged, the tail is mixed in and the bits are spread (Collet, xxHash
/// specification).
std::uint64_t checksum(const void* data, std::size_t bytes);

}  // namespace rev::io
