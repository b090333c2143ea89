#include "rev/base/rng_state.h"

#include <ATen/Context.h>
#include <ATen/core/Generator.h>
#include <cstring>
#include <mutex>

#include "rev/base/capture.h"

namespace rev::base {
namespace {

bool same_bytes(const at::Tensor& a, const at::Tensor& b) {
  return a.defined() && b.defined() && a.nbytes() == b.nbytes() &&
         std::memcmp(a.const_data_ptr(), b.const_data_ptr(), a.nbytes()) == 0;
}

}  // namespace

at::Tensor generator_state(c10::Device device) {
  at::Generator generator = at::globalContext().defaultGenerator(device);
  const std::lock_guard<std::mutex> lock(generator.mutex());
  return generator.get_state();
}

void set_generator_state(c10::Device device, const at::Tensor& state) {
  at::Generator generator = at::globalContext().defaultGenerator(device);
  const std::lock_guard<std::mutex> lock(generator.mutex());
  generator.set_state(state);
}

RngState RngState::capture(c10::Device device, const RngState& last) {
  RngState state;
  state.device_ = device;
  const auto take = [&state](c10::Device from, const at::Tensor& before) {
    at::Tensor now = generator_state(from);
    if (same_bytes(now, before)) return before;
    state.own_bytes_ += static_cast<int64_t>(now.nbytes());
    return now;
  };
  state.cpu_ = take(c10::kCPU, last.cpu_);
  if (!device.is_cpu() && !is_capturing(device)) {
    state.device_state_ = take(device, last.device_state_);
  }
  return state;
}

void RngState::restore() const {
  if (cpu_.defined()) set_generator_state(c10::kCPU, cpu_);
  if (device_state_.defined()) set_generator_state(device_, device_state_);
}

}  // namespace rev::base
