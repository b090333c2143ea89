#include "rev/optim/adamw.h"

#include <ATen/core/grad_mode.h>
#include <ATen/ops/_fused_adamw.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <set>

#include "rev/kernels/adamw.h"
#include "rev/kernels/dtype.h"

namespace rev::optim {

using at::Tensor;

namespace {

constexpr int64_t kFewestCoded = 16 * kernels::kMomentBlock;  // elements of a parameter

bool by_kernel(const Tensor& parameter) {
  return kernels::is_kernel_float(parameter.scalar_type());
}

// The gradient in the parameter's layout, in which it is nearly always.
Tensor grad_like(const Tensor& parameter) {
  const Tensor grad = parameter.grad();
  const bool same =
      (grad.is_contiguous() && parameter.is_contiguous()) || grad.strides() == parameter.strides();
  return same ? grad : at::empty_like(parameter).copy_(grad);
}

}  // namespace

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
  TORCH_CHECK(options.state_bits == 8 || options.state_bits == 32, "AdamW: state_bits are ",
              options.state_bits, ", expected 8 or 32");

  std::set<std::string> names;
  for (const ParameterGroup& group : groups) {
    TORCH_CHECK(group.weight_decay >= 0, "AdamW: weight decay is ", group.weight_decay,
                ", expected at least 0");
    groups_.push_back({{}, group.weight_decay});
    for (const auto& [name, parameter] : group.parameters) {
      TORCH_CHECK(names.insert(name).second, "AdamW: parameter ", name, " comes twice");
      groups_.back().slots.push_back(make_slot(name, parameter));
    }
  }
}

AdamW::Slot AdamW::make_slot(const std::string& name, const Tensor& parameter) const {
  const Tensor w = parameter.detach();  // no graph, and shares the parameter's memory
  const auto floats = w.options().dtype(at::kFloat);
  Slot slot{name, parameter, {}, {}, at::zeros({}, floats), {}, {}, {}};
  const bool coded = options_.state_bits == 8 && by_kernel(w) && w.numel() >= kFewestCoded;
  const at::ScalarType dtype = coded ? at::kByte : by_kernel(w) ? at::kFloat : w.scalar_type();
  slot.exp_avg = at::zeros_like(w, w.options().dtype(dtype));
  slot.exp_avg_sq = at::zeros_like(w, w.options().dtype(dtype));
  if (coded) {
    const int64_t blocks = (w.numel() + kernels::kMomentBlock - 1) / kernels::kMomentBlock;
    slot.exp_avg_scale = at::zeros({blocks}, floats);
    slot.exp_avg_sq_scale = at::zeros({blocks}, floats);
  }
  if (options_.master_weights && w.scalar_type() == at::kBFloat16) slot.master = w.to(at::kFloat);
  return slot;
}

void AdamW::step(double lr) {
  const at::NoGradGuard no_grad;
  if (const Tensor first = first_with_gradient(true); first.defined()) {
    step_by_kernel({at::full({}, lr, first.options().dtype(at::kFloat)), {}, {}});
  }
  step_by_torch(lr, 1);
}

void AdamW::step(const StepTensors& tensors) {
  const at::NoGradGuard no_grad;
  step_by_kernel(tensors);
  if (!first_with_gradient(false).defined()) return;
  if (tensors.skip.defined() && tensors.skip.item<int32_t>() != 0) return;
  step_by_torch(tensors.lr.item<double>(),
                tensors.clip.defined() ? tensors.clip.item<double>() : 1);
}

// A parameter that has a gradient and takes the kernel's step, or LibTorch's; undefined: none.
Tensor AdamW::first_with_gradient(bool kernel) const {
  for (const Group& group : groups_) {
    for (const Slot& slot : group.slots) {
      if (slot.parameter.grad().defined() && by_kernel(slot.parameter) == kernel) {
        return slot.parameter;
      }
    }
  }
  return {};
}

void AdamW::step_by_kernel(const StepTensors& tensors) {
  std::vector<kernels::AdamWTensor> list;
  for (const Group& group : groups_) {
    for (const Slot& slot : group.slots) {
      if (!slot.parameter.grad().defined() || !by_kernel(slot.parameter)) continue;
      list.push_back({slot.parameter, grad_like(slot.parameter), slot.exp_avg, slot.exp_avg_sq,
                      slot.exp_avg_scale, slot.exp_avg_sq_scale, slot.step, slot.master,
                      group.weight_decay});
    }
  }
  kernels::adamw_(
      list, {options_.beta1, options_.beta2, options_.eps, tensors.lr, tensors.clip, tensors.skip});
}

void AdamW::step_by_torch(double lr, double clip) {
  for (Group& group : groups_) {
    std::vector<Tensor> parameters, grads, exp_avgs, exp_avg_sqs, steps;
    for (Slot& slot : group.slots) {
      const Tensor grad = slot.parameter.grad();
      if (!grad.defined() || by_kernel(slot.parameter)) continue;
      slot.step.add_(1);
      parameters.push_back(slot.parameter);
      grads.push_back(clip == 1 ? grad : grad.mul(clip));
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
      for (const auto& [name, tensor] : {std::pair(".exp_avg_scale", slot.exp_avg_scale),
                                         std::pair(".exp_avg_sq_scale", slot.exp_avg_sq_scale),
                                         std::pair(".master", slot.master)}) {
        if (tensor.defined()) all.emplace_back(slot.name + name, tensor);
      }
    }
  }
  return all;
}

void AdamW::load_state(const base::NamedTensors& state) {
  base::copy_named(this->state(), state, "AdamW: state");
}

}  // namespace rev::optim
