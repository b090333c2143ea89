#include "rev/optim/adamw.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <set>

namespace rev::optim {

using at::Tensor;

std::vector<ParameterGroup> decay_matrices(const base::NamedTensors& parameters,
                                           double weight_decay) {
  std::vector<ParameterGroup> groups{{{}, weight_decay}, {{}, 0.0}};
  for (const auto& named : parameters) {
    if (!named.second.requires_grad()) continue;
    groups[named.second.dim() >= 2 ? 0 : 1].parameters.push_back(named);
  }
  return groups;
}

AdamW::AdamW(std::vector<ParameterGroup> groups, const AdamWOptions& options) : options_(options) {
  for (const double beta : {options.beta1, options.beta2}) {
    TORCH_CHECK(beta >= 0 && beta < 1, "AdamW: beta is ", beta, ", expected 0 <= beta < 1");
  }
  TORCH_CHECK(options.eps >= 0, "AdamW: eps is ", options.eps, ", expected at least 0");

  std::set<std::string> names;
  for (const ParameterGroup& group : groups) {
    TORCH_CHECK(group.weight_decay >= 0, "AdamW: weight decay is ", group.weight_decay,
                ", expected at least 0");
    groups_.push_back({{}, group.weight_decay});
    for (const auto& [name, parameter] : group.parameters) {
      TORCH_CHECK(names.insert(name).second, "AdamW: parameter ", name, " comes twice");
      const Tensor w = parameter.detach();  // no graph, and shares the parameter's memory
      groups_.back().slots.push_back({name, parameter, at::zeros_like(w), at::zeros_like(w),
                                      at::zeros({}, w.options().dtype(at::kFloat))});
    }
  }
}

void AdamW::step(double lr) {
  const at::NoGradGuard no_grad;
  for (Group& group : groups_) {
    std::vector<Tensor> parameters, grads, exp_avgs, exp_avg_sqs, steps;
    for (Slot& slot : group.slots) {
      if (!slot.parameter.grad().defined()) continue;
      slot.step.add_(1);
      parameters.push_back(slot.parameter);
      grads.push_back(slot.parameter.grad());
      exp_avgs.push_back(slot.exp_avg);
      exp_avg_sqs.push_back(slot.exp_avg_sq);
      steps.push_back(slot.step);
    }
    if (parameters.empty()) continue;
    at::_fused_adamw_(parameters, grads, exp_avgs, exp_avg_sqs, {}, steps, lr, options_.beta1,
                      options_.beta2, group.weight_decay, options_.eps, /*amsgrad=*/false,
                      /*maximize=*/false);
  }
}

void AdamW::zero_grad() {
  for (const Tensor& parameter : parameters()) parameter.mutable_grad() = Tensor();
}

std::vector<Tensor> AdamW::parameters() const {
  std::vector<Tensor> all;
  for (const Group& group : groups_) {
    for (const Slot& slot : group.slots) all.push_back(slot.parameter);
  }
  return all;
}

base::NamedTensors AdamW::state() const {
  base::NamedTensors all;
  for (const Group& group : groups_) {
    for (const Slot& slot : group.slots) {
      all.emplace_back(slot.name + ".exp_avg", slot.exp_avg);
      all.emplace_back(slot.name + ".exp_avg_sq", slot.exp_avg_sq);
      all.emplace_back(slot.name + ".step", slot.step);
    }
  }
  return all;
}

void AdamW::load_state(const base::NamedTensors& state) {
  base::copy_named(this->state(), state, "AdamW: state");
}

}  // namespace rev::optim
