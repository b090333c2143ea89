#pragma once

#include <c10/core/DeviceType.h>
#include <c10/core/ScalarType.h>

namespace rev::base {

/// Autocast as it stands for one device type: whether it is on, and to which dtype, as a value.
///
/// In backward LibTorch shows the state of the thread that called `backward()`, usually outside the
/// region in which forward ran; a field that is evaluated again needs forward's.
struct AutocastState {
  c10::DeviceType device = c10::DeviceType::CPU;
  bool enabled = false;
  c10::ScalarType dtype = c10::ScalarType::BFloat16;

  static AutocastState capture(c10::DeviceType device);
};

/// Applies an autocast state for a scope, with the cache of cast weights off: weights that were
/// cast while no graph was recorded would be used later without one, and so lose their gradient.
class AutocastGuard {
 public:
  explicit AutocastGuard(const AutocastState& state);
  ~AutocastGuard();
  AutocastGuard(const AutocastGuard&) = delete;
  AutocastGuard& operator=(const AutocastGuard&) = delete;

 private:
  AutocastState before_;
  bool cache_before_;
};

}  // namespace rev::base
