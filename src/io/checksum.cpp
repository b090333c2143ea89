#include "rev/io/checksum.h"

#include <bit>
#include <cstring>

namespace rev::io {
namespace {

static_assert(std::endian::native == std::endian::little, "words are read as they lie in memory");

// Odd primes of the specification.
constexpr std::uint64_t kP1 = 0x9E3779B185EBCA87;
constexpr std::uint64_t kP2 = 0xC2B2AE3D27D4EB4F;
constexpr std::uint64_t kP3 = 0x165667B19E3779F9;
constexpr std::uint64_t kP4 = 0x85EBCA77C2B2AE63;
constexpr std::uint64_t kP5 = 0x27D4EB2F165667C5;

template <typename Word>
std::uint64_t load(const unsigned char* from) {
  Word word;
  std::memcpy(&word, from, sizeof(word));
  return word;
}

std::uint64_t round(std::uint64_t sum, std::uint64_t word) {
  return std::rotl(sum + word * kP2, 31) * kP1;
}

}  // namespace

std::uint64_t checksum(const void* data, std::size_t bytes) {
  const auto* next = static_cast<const unsigned char*>(data);
  std::size_t left = bytes;
  std::uint64_t h = kP5;
  if (left >= 32) {
    std::uint64_t sums[4] = {kP1 + kP2, kP2, 0, 0 - kP1};
    for (; left >= 32; left -= 32, next += 32) {
      for (int lane = 0; lane < 4; ++lane) {
        sums[lane] = round(sums[lane], load<std::uint64_t>(next + 8 * lane));
      }
    }
    h = std::rotl(sums[0], 1) + std::rotl(sums[1], 7) + std::rotl(sums[2], 12) +
        std::rotl(sums[3], 18);
    for (const std::uint64_t sum : sums) h = (h ^ round(0, sum)) * kP1 + kP4;
  }
  h += bytes;
  for (; left >= 8; left -= 8, next += 8) {
    h = std::rotl(h ^ round(0, load<std::uint64_t>(next)), 27) * kP1 + kP4;
  }
  for (; left >= 4; left -= 4, next += 4) {
    h = std::rotl(h ^ (load<std::uint32_t>(next) * kP1), 23) * kP2 + kP3;
  }
  for (; left > 0; --left, ++next) h = std::rotl(h ^ (*next * kP5), 11) * kP1;
  h = (h ^ (h >> 33)) * kP2;
  h = (h ^ (h >> 29)) * kP3;
  return h ^ (h >> 32);
}

}  // namespace rev::io
