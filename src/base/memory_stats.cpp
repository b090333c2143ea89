#include "rev/base/memory_stats.h"

#include <atomic>
#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/alloc_cpu.h>
#include <cstring>
#include <malloc.h>

namespace rev::base {
namespace {

std::atomic<int64_t> live{0};
std::atomic<int64_t> peak{0};

void released(void* data) {
  live.fetch_sub(static_cast<int64_t>(malloc_usable_size(data)), std::memory_order_relaxed);
  c10::free_cpu(data);
}

// LibTorch's own allocation, with its bytes counted. Freed blocks say their size themselves
// (malloc_usable_size), so that no table of blocks is needed.
class CountingAllocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t bytes) override {
    void* data = c10::alloc_cpu(bytes);
    if (data != nullptr) {
      const auto size = static_cast<int64_t>(malloc_usable_size(data));
      const int64_t now = live.fetch_add(size, std::memory_order_relaxed) + size;
      int64_t seen = peak.load(std::memory_order_relaxed);
      while (now > seen && !peak.compare_exchange_weak(seen, now, std::memory_order_relaxed)) {
      }
    }
    return {data, data, &released, c10::Device(c10::DeviceType::CPU)};
  }

  c10::DeleterFnPtr raw_deleter() const override { return &released; }

  void copy_data(void* to, const void* from, size_t bytes) const override {
    std::memcpy(to, from, bytes);
  }
};

}  // namespace

void count_memory() {
  static CountingAllocator allocator;
  // Above the default's priority 0, so that this one is taken.
  static const bool installed = (c10::SetCPUAllocator(&allocator, 1), true);
  (void)installed;
}

MemoryStats memory_stats() { return {live.load(), peak.load()}; }

void reset_peak_memory() { peak.store(live.load()); }

}  // namespace rev::base
