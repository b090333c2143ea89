// The same of a build without CUDA: nothing is captured, and no profiler listens.
#include <utility>

#include "rev/base/capture.h"
#include "rev/base/range.h"

namespace rev::base {

bool is_capturing(c10::Device) { return false; }

struct RepeatedWork::Graph {};

RepeatedWork::RepeatedWork(c10::Device device, std::function<void()> work)
    : device_(device), work_(std::move(work)) {}

RepeatedWork::~RepeatedWork() = default;

void RepeatedWork::run() { work_(); }

Range::Range(const char*, int64_t) {}

Range::~Range() = default;

}  // namespace rev::base
