#include "rev/train/run_state.h"

#include <c10/util/Exception.h>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "rev/base/rng_state.h"

namespace rev::train {
namespace {

using nlohmann::json;
using Group = std::map<std::string, at::Tensor>;

Group to_group(const base::NamedTensors& tensors) { return {tensors.begin(), tensors.end()}; }

const Group& group_of(const io::Checkpoint& checkpoint, const std::string& name) {
  const auto found = checkpoint.groups.find(name);
  TORCH_CHECK(found != checkpoint.groups.end(), "checkpoint of step ", checkpoint.step,
              ": has no group ", name);
  return found->second;
}

base::NamedTensors named(const Group& group) { return {group.begin(), group.end()}; }

std::vector<c10::Device> devices_with_generators(c10::Device device) {
  if (device.is_cpu()) return {device};
  return {c10::kCPU, device};
}

std::string name_of(c10::Device device) { return c10::DeviceTypeName(device.type(), true); }

std::vector<int64_t> checkpointed_layers(models::Gpt2 model) {
  std::vector<int64_t> layers;
  if (model->config().memory != engine::Memory::Invert) return layers;
  const engine::Stack& stack = model->stack();
  for (int64_t l = 0; l < stack.n_layers(); ++l) {
    if (stack.memory(l) == engine::Memory::Checkpoint) layers.push_back(l);
  }
  return layers;
}

}  // namespace

io::Checkpoint take_checkpoint(const RunState& run, int64_t step, const Settings& settings) {
  io::Checkpoint checkpoint;
  checkpoint.step = step;
  checkpoint.groups["model"] = to_group(run.model->state_dict());
  checkpoint.groups["optimizer"] = to_group(run.optimizer->state());
  for (const c10::Device device : devices_with_generators(run.device)) {
    checkpoint.groups["generators"][name_of(device)] = base::generator_state(device);
  }
  const json state = {{"settings", json::parse(to_json(settings))},
                      {"checkpointed_layers", checkpointed_layers(run.model)}};
  checkpoint.state = state.dump(2) + "\n";
  return checkpoint;
}

Settings settings_of(const io::Checkpoint& checkpoint, const std::string& where) {
  const json state = json::parse(checkpoint.state, nullptr, /*allow_exceptions=*/false);
  TORCH_CHECK(state.is_object() && state.contains("settings"), where,
              ": its state is not that of a training run");
  return from_json(state["settings"].dump(), where);
}

void restore_checkpoint(const io::Checkpoint& checkpoint, const RunState& run) {
  models::Gpt2 model = run.model;
  model->load_state_dict(named(group_of(checkpoint, "model")));
  run.optimizer->load_state(named(group_of(checkpoint, "optimizer")));
  const Group& generators = group_of(checkpoint, "generators");
  for (const c10::Device device : devices_with_generators(run.device)) {
    const auto state = generators.find(name_of(device));
    TORCH_CHECK(state != generators.end(), "checkpoint of step ", checkpoint.step,
                ": has no generator for ", name_of(device));
    base::set_generator_state(device, state->second);
  }
  if (model->config().memory != engine::Memory::Invert) return;
  const json layers = json::parse(checkpoint.state).value("checkpointed_layers", json::array());
  for (const json& layer : layers) {
    model->stack().set_memory(layer.get<int64_t>(), engine::Memory::Checkpoint);
  }
}

}  // namespace rev::train
