#pragma once

#include <c10/core/Device.h>
#include <functional>
#include <memory>

namespace rev::base {

/// Whether work queued on the device's current stream is being captured in a CUDA graph, so that
/// nothing may wait for it and no generator of the device be asked for its state.
bool is_capturing(c10::Device device);

/// The same work again and again: on a CUDA device as a CUDA graph, which costs the host one launch
/// whatever the number of kernels; on others called each time.
///
/// What is captured is kernels with their arguments. So the work reads and writes the same tensors
/// at each run, takes what varies from tensors on the device, never waits for the device, and draws
/// random numbers from the device's default generator alone. On CUDA the first two runs call it as
/// it is, on a stream of its own, for what libraries do once; the third captures it.
class RepeatedWork {
 public:
  RepeatedWork(c10::Device device, std::function<void()> work);
  ~RepeatedWork();
  RepeatedWork(const RepeatedWork&) = delete;
  RepeatedWork& operator=(const RepeatedWork&) = delete;

  /// Queues the work after what is queued on the device's current stream, which waits for it.
  /// Throws what the work throws, and c10::Error where it cannot be captured.
  void run();

 private:
  struct Graph;  // of a build with CUDA
  c10::Device device_;
  std::function<void()> work_;
  std::unique_ptr<Graph> graph_;
};

}  // namespace rev::base
