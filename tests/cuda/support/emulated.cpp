// The tests' memory and schedules on the emulator.
#include <cstdlib>
#include <cstring>
#include <map>

#include "cuda/support/device.h"
#include "emulator/launch.h"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, bytes) static_cast<void>(0)
#define ASAN_UNPOISON_MEMORY_REGION(address, bytes) static_cast<void>(0)
#endif

namespace rev::cuda::testing {
namespace {

// The memory ends where malloc's block ends, so that the sanitizer knows the end. What lies before
// it in the block is poisoned as far as the sanitizer can: by whole words of 8 bytes.
struct Block {
  char* begin;
  std::size_t offset;
};

constexpr std::size_t kWord = 8;
constexpr unsigned char kRubbish = 0xff;

std::map<void*, Block>& blocks() {
  static std::map<void*, Block> blocks;
  return blocks;
}

}  // namespace

std::string missing_device() { return ""; }

unsigned schedules() { return emulator::kSchedules; }

void choose_schedule(unsigned schedule) { emulator::choose_schedule(schedule); }

void limit_blocks(unsigned most) { emulator::limit_blocks(most); }

void* allocate(std::size_t bytes, std::size_t offset) {
  auto* begin = static_cast<char*>(std::malloc(offset + bytes));  // aligned to 16
  std::memset(begin, kRubbish, offset + bytes);
  ASAN_POISON_MEMORY_REGION(begin, offset / kWord * kWord);
  void* const memory = begin + offset;
  blocks()[memory] = {begin, offset};
  return memory;
}

bool release(void* memory) {
  const Block block = blocks().at(memory);
  blocks().erase(memory);
  ASAN_UNPOISON_MEMORY_REGION(block.begin, block.offset);
  bool untouched = true;
  for (std::size_t i = 0; i < block.offset; ++i) {
    untouched = untouched && static_cast<unsigned char>(block.begin[i]) == kRubbish;
  }
  std::free(block.begin);
  return untouched;
}

void copy_to_device(void* to, const void* from, std::size_t bytes) {
  if (bytes != 0) std::memcpy(to, from, bytes);
}
void copy_from_device(void* to, const void* from, std::size_t bytes) {
  if (bytes != 0) std::memcpy(to, from, bytes);
}

}  // namespace rev::cuda::testing
