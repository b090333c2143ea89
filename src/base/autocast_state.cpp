#include "rev/base/autocast_state.h"

#include <ATen/autocast_mode.h>

namespace rev::base {
namespace {

void apply(const AutocastState& state) {
  at::autocast::set_autocast_enabled(state.device, state.enabled);
  at::autocast::set_autocast_dtype(state.device, state.dtype);
}

}  // namespace

AutocastState AutocastState::capture(c10::DeviceType device) {
  return {device, at::autocast::is_autocast_enabled(device),
          at::autocast::get_autocast_dtype(device)};
}

AutocastGuard::AutocastGuard(const AutocastState& state)
    : before_(AutocastState::capture(state.device)),
      cache_before_(at::autocast::is_autocast_cache_enabled()) {
  apply(state);
  at::autocast::set_autocast_cache_enabled(false);
}

AutocastGuard::~AutocastGuard() {
  apply(before_);
  at::autocast::set_autocast_cache_enabled(cache_before_);
}

}  // namespace rev::base
