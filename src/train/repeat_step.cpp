#include "rev/train/repeat_step.h"

#include "rev/base/rng_state.h"

namespace rev::train {

double repeat_step(engine::Stack& stack, c10::Device device, const std::function<double()>& passes,
                   const std::function<void(const base::NotInvertible&)>& gave_up) {
  const base::RngState before = base::RngState::capture(device);
  for (;;) {
    try {
      return passes();
    } catch (const base::NotInvertible& error) {
      if (error.cause() != base::NotInvertible::Cause::FixedPoint) throw;
      if (gave_up) gave_up(error);
      stack.set_memory(error.layer(), engine::Memory::Checkpoint);
      stack.take_report();
      before.restore();
    }
  }
}

}  // namespace rev::train
