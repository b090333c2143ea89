#include "rev/train/peak_memory.h"

#include <c10/core/CachingDeviceAllocator.h>
#include <cstdint>

#include "rev/base/memory_stats.h"

namespace rev::train {
namespace {

c10::DeviceIndex index_of(c10::Device device) {
  return device.has_index() ? device.index() : c10::DeviceIndex(0);
}

}  // namespace

double peak_mib(c10::Device device) {
  using c10::CachingAllocator::StatType;
  const int64_t bytes = device.is_cpu()
                            ? base::memory_stats().peak_bytes
                            : c10::getDeviceAllocator(device.type())
                                  ->getDeviceStats(index_of(device))
                                  .allocated_bytes[static_cast<size_t>(StatType::AGGREGATE)]
                                  .peak;
  return static_cast<double>(bytes) / (1 << 20);
}

void reset_peak(c10::Device device) {
  if (device.is_cpu()) {
    base::reset_peak_memory();
  } else {
    c10::getDeviceAllocator(device.type())->resetPeakStats(index_of(device));
  }
}

}  // namespace rev::train
