// The tests' memory and schedules on a GPU.
#include <algorithm>
#include <cuda_runtime_api.h>
#include <map>
#include <vector>

#include "cuda/check.h"
#include "cuda/support/device.h"

namespace rev::cuda::testing {
namespace {

// Memory with a margin of rubbish on both sides, to see what is written beyond it.
struct Block {
  char* begin;
  std::size_t before, bytes;
};

constexpr std::size_t kMargin = 256;
constexpr unsigned char kRubbish = 0xff;

std::map<void*, Block>& blocks() {
  static std::map<void*, Block> blocks;
  return blocks;
}

bool is_rubbish(const char* memory, std::size_t bytes) {
  std::vector<unsigned char> values(bytes);
  copy_from_device(values.data(), memory, bytes);
  return std::all_of(values.begin(), values.end(), [](unsigned char v) { return v == kRubbish; });
}

}  // namespace

std::string missing_device() {
  int devices = 0;
  const cudaError_t status = cudaGetDeviceCount(&devices);
  if (status != cudaSuccess) return std::string("no CUDA device: ") + cudaGetErrorString(status);
  return devices == 0 ? "no CUDA device" : "";
}

unsigned schedules() { return 2; }  // a GPU chooses its own order, not always the same

void choose_schedule(unsigned) {}

void limit_blocks(unsigned) {}

void* allocate(std::size_t bytes, std::size_t offset) {
  const std::size_t before = kMargin + offset;
  void* begin = nullptr;
  REV_CUDA_CHECK(cudaMalloc(&begin, before + bytes + kMargin));
  REV_CUDA_CHECK(cudaMemset(begin, kRubbish, before + bytes + kMargin));
  void* const memory = static_cast<char*>(begin) + before;
  blocks()[memory] = {static_cast<char*>(begin), before, bytes};
  return memory;
}

bool release(void* memory) {
  const Block block = blocks().at(memory);
  blocks().erase(memory);
  const bool untouched = is_rubbish(block.begin, block.before) &&
                         is_rubbish(block.begin + block.before + block.bytes, kMargin);
  REV_CUDA_CHECK(cudaFree(block.begin));
  return untouched;
}

void copy_to_device(void* to, const void* from, std::size_t bytes) {
  REV_CUDA_CHECK(cudaMemcpy(to, from, bytes, cudaMemcpyHostToDevice));
}

void copy_from_device(void* to, const void* from, std::size_t bytes) {
  REV_CUDA_CHECK(cudaDeviceSynchronize());
  REV_CUDA_CHECK(cudaMemcpy(to, from, bytes, cudaMemcpyDeviceToHost));
}

}  // namespace rev::cuda::testing
