// What a build with CUDA does with streams and graphs, and tells profilers.
#include <ATen/cuda/CUDAEvent.h>
#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDAGraphsC10Utils.h>
#include <c10/cuda/CUDAGuard.h>
#include <fmt/format.h>
#include <nvtx3/nvToolsExt.h>
#include <utility>

#include "rev/base/capture.h"
#include "rev/base/range.h"

namespace rev::base {

bool is_capturing(c10::Device device) {
  if (!device.is_cuda()) return false;
  const c10::cuda::CUDAGuard guard(device);
  return c10::cuda::currentStreamCaptureStatusMayInitCtx() != c10::cuda::CaptureStatus::None;
}

struct RepeatedWork::Graph {
  explicit Graph(c10::Device device)
      : stream(c10::cuda::getStreamFromPool(/*isHighPriority=*/false, device.index())) {}

  void capture(const std::function<void()>& work) {
    graph.capture_begin();
    try {
      work();
    } catch (...) {
      try {
        graph.capture_end();
      } catch (const c10::Error&) {  // says that the capture failed, which `work` says better
      }
      throw;
    }
    graph.capture_end();
  }

  static constexpr int64_t kWarmUps = 2;
  c10::cuda::CUDAStream stream;
  at::cuda::CUDAGraph graph;
  int64_t runs = 0;
};

RepeatedWork::RepeatedWork(c10::Device device, std::function<void()> work)
    : device_(device),
      work_(std::move(work)),
      graph_(device.is_cuda() ? std::make_unique<Graph>(device) : nullptr) {}

RepeatedWork::~RepeatedWork() = default;

void RepeatedWork::run() {
  if (graph_ == nullptr) return work_();
  const c10::cuda::CUDAStream current = c10::cuda::getCurrentCUDAStream(device_.index());
  at::cuda::CUDAEvent before, after;
  before.record(current);
  before.block(graph_->stream);
  {
    const c10::cuda::CUDAStreamGuard guard(graph_->stream);
    if (graph_->runs < Graph::kWarmUps) {
      work_();
    } else {
      if (graph_->runs == Graph::kWarmUps) graph_->capture(work_);
      graph_->graph.replay();
    }
  }
  ++graph_->runs;
  after.record(graph_->stream);
  after.block(current);
}

Range::Range(const char* what, int64_t layer) {
  nvtxRangePushA(fmt::format("{} {}", what, layer).c_str());
}

Range::~Range() { nvtxRangePop(); }

}  // namespace rev::base
