#pragma once

#include <ATen/core/Tensor.h>
#include <utility>

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

}  // namespace rev::engine
