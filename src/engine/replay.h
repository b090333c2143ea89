#pragma once

#include <ATen/core/Tensor.h>
#include <utility>
#include <vector>

#include "rev/base/autocast_state.h"
#include "rev/base/rng_state.h"

namespace rev::engine {

/// Runs fn under the generators' and autocast's state as they were, and puts both back.
///
/// Only around an evaluation, never around the gradient that follows it: while a nested gradient
/// waits, the autograd engine may run other nodes on this thread.
template <class Fn>
auto replay(const base::RngState& rng, const base::AutocastState& autocast, c10::Device device,
            Fn&& fn) {
  const base::RngGuard restore(device);
  const base::AutocastGuard cast(autocast);
  rng.restore();
  return std::forward<Fn>(fn)();
}

/// Puts buffers back as they were on leaving a scope.
class BufferGuard {
 public:
  explicit BufferGuard(std::vector<at::Tensor> buffers) : buffers_(std::move(buffers)) {
    for (const at::Tensor& b : buffers_) before_.push_back(b.clone());
  }
  ~BufferGuard() {
    // Behind autograd's back: a graph may have saved a buffer that its gradient does not read.
    for (size_t i = 0; i < buffers_.size(); ++i) buffers_[i].variable_data().copy_(before_[i]);
  }
  BufferGuard(const BufferGuard&) = delete;
  BufferGuard& operator=(const BufferGuard&) = delete;

 private:
  std::vector<at::Tensor> buffers_, before_;
};

}  // namespace rev::engine
