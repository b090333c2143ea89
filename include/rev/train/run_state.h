// Between a run and its checkpoints: all that changes from step to step. Batches, learning rates
// and everything else are pure functions of the settings and the step.
#pragma once

#include <c10/core/Device.h>
#include <cstdint>

#include "rev/io/checkpoint.h"
#include "rev/models/gpt2.h"
#include "rev/optim/adamw.h"
#include "rev/train/config_file.h"

namespace rev::train {

/// The parts of a run that a checkpoint fills.
struct RunState {
  models::Gpt2 model{nullptr};
  optim::AdamW* optimizer = nullptr;  ///< not owned
  c10::Device device = c10::kCPU;
};

/// A run after `step` steps: weights, moments, the default generators of the CPU and the device,
/// and which of the layers that should be inverted are checkpointed since they could not be.
/// settings: those that a run which goes on from here must share. Tensors are not copied.
io::Checkpoint take_checkpoint(const RunState& run, int64_t step, const Settings& settings);

/// The settings that a checkpoint was taken with. Throws c10::Error naming `where` for a state that
/// `take_checkpoint` did not make.
Settings settings_of(const io::Checkpoint& checkpoint, const std::string& where);

/// Puts a run into the state of a checkpoint, bit for bit. Throws c10::Error naming each tensor
/// that does not fit.
void restore_checkpoint(const io::Checkpoint& checkpoint, const RunState& run);

}  // namespace rev::train
