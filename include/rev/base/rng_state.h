#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>
#include <cstdint>

namespace rev::base {

/// The state of a device's default random generator, uint8 on the CPU; the generator's lock is held
/// meanwhile.
at::Tensor generator_state(c10::Device device);
void set_generator_state(c10::Device device, const at::Tensor& state);

/// The state of the default random generators that code on one device may draw from, as a value:
/// the CPU's and, for another device, that device's too, unless its work is being captured in a
/// CUDA graph: then code must not draw from the latter.
///
/// Kept with a node, never on a module: two forwards before two backwards replay each its own.
class RngState {
 public:
  RngState() = default;

  /// The state as it is now. Where it equals `last` (nothing was drawn in between) memory is
  /// shared.
  static RngState capture(c10::Device device, const RngState& last);
  static RngState capture(c10::Device device) { return capture(device, RngState()); }

  /// Puts the generators back into this state.
  void restore() const;

  /// Bytes that this value holds by itself, not shared with `last`.
  int64_t own_bytes() const { return own_bytes_; }

 private:
  c10::Device device_ = c10::kCPU;
  at::Tensor cpu_;           // generator state, uint8
  at::Tensor device_state_;  // undefined on the CPU
  int64_t own_bytes_ = 0;
};

/// Restores the generators on leaving a scope.
class RngGuard {
 public:
  explicit RngGuard(c10::Device device) : state_(RngState::capture(device)) {}
  ~RngGuard() { state_.restore(); }
  RngGuard(const RngGuard&) = delete;
  RngGuard& operator=(const RngGuard&) = delete;

 private:
  RngState state_;
};

}  // namespace rev::base
