#include "rev/train/device_step.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <c10/util/ScopeExit.h>
#include <utility>

#include "rev/base/capture.h"
#include "rev/kernels/dtype.h"
#include "rev/optim/clip.h"

namespace rev::train {

using at::Tensor;

struct DeviceStep::Impl {
  Loss loss;
  engine::Stack& stack;
  optim::AdamW& optimizer;
  double max_norm;
  c10::Device device;
  // What the work reads and writes.
  Tensor inputs, targets;  // [A,B,T]
  Tensor lr, sum, norm;    // float32 scalars
  std::unique_ptr<base::RepeatedWork> work;

  void step() {
    optimizer.zero_grad();
    sum.zero_();
    const int64_t n = inputs.size(0);
    for (int64_t i = 0; i < n; ++i) {
      const Tensor part = loss(inputs[i], targets[i]) / n;
      part.backward();
      sum.add_(part.detach());
    }
    const Tensor skip = stack.flaw();  // and where the norm is not finite
    const auto limited = optim::grad_norm(optimizer.parameters(), max_norm, skip);
    optimizer.step({lr, limited.factor, skip});
    norm.copy_(limited.norm);
  }

  void take(const std::vector<data::Batch>& batches) {
    TORCH_CHECK(!batches.empty(), "device step: expected a micro-batch, got none");
    const auto n = static_cast<int64_t>(batches.size());
    const at::IntArrayRef shape = batches[0].inputs.sizes();
    if (!inputs.defined()) {
      const auto ids = at::TensorOptions(at::kLong).device(device);
      inputs = at::empty({n, shape[0], shape[1]}, ids);
      targets = at::empty({n, shape[0], shape[1]}, ids);
    }
    TORCH_CHECK(n == inputs.size(0), "device step: the first had ", inputs.size(0),
                " micro-batches, this one has ", n);
    for (int64_t i = 0; i < n; ++i) {
      const data::Batch& batch = batches[static_cast<size_t>(i)];
      TORCH_CHECK(batch.inputs.sizes() == inputs[i].sizes(), "device step: micro-batches are ",
                  inputs[i].sizes(), " as at the first step, got ", batch.inputs.sizes());
      inputs[i].copy_(batch.inputs);
      targets[i].copy_(batch.targets);
    }
  }
};

DeviceStep::DeviceStep(Loss loss, engine::Stack& stack, optim::AdamW& optimizer, double max_norm) {
  TORCH_CHECK(stack.scheme().name() != "revffn",
              "device step: a RevFFN stack waits for the device in every layer");
  const std::vector<Tensor> parameters = optimizer.parameters();
  TORCH_CHECK(!parameters.empty(), "device step: the optimizer has no parameters");
  for (const Tensor& p : parameters) {
    TORCH_CHECK(kernels::is_kernel_float(p.scalar_type()),
                "device step: parameters must be float32 or bfloat16, got ", p.scalar_type());
  }
  const c10::Device device = parameters[0].device();
  const auto number = [&] { return at::zeros({}, at::TensorOptions(at::kFloat).device(device)); };
  impl_.reset(new Impl{std::move(loss),
                       stack,
                       optimizer,
                       max_norm,
                       device,
                       {},
                       {},
                       number(),
                       number(),
                       number(),
                       nullptr});
  impl_->work =
      std::make_unique<base::RepeatedWork>(device, [impl = impl_.get()] { impl->step(); });
}

DeviceStep::~DeviceStep() = default;

DeviceStep::Result DeviceStep::run(const std::vector<data::Batch>& batches, double lr) {
  impl_->take(batches);
  impl_->lr.fill_(lr);
  {
    impl_->stack.set_defer_checks(true);
    const auto waits_again = c10::make_scope_exit([this] { impl_->stack.set_defer_checks(false); });
    impl_->work->run();
  }
  impl_->stack.check();
  return {impl_->sum.item<double>(), impl_->norm.item<double>()};
}

}  // namespace rev::train
