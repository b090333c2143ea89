#include "rev/engine/field.h"

#include "engine/linearise.h"

namespace rev::engine {
namespace {

using at::Tensor;

class FunctionField final : public Field {
 public:
  FunctionField(std::function<Tensor(at::TensorList)> fn,
                std::function<std::vector<Tensor>()> parameters,
                std::function<std::vector<Tensor>()> buffers)
      : fn_(std::move(fn)), parameters_(std::move(parameters)), buffers_(std::move(buffers)) {}

  Tensor forward(at::TensorList x) override { return fn_(x); }
  std::vector<Tensor> parameters() const override { return parameters_(); }
  std::vector<Tensor> buffers() const override { return buffers_(); }

 private:
  std::function<Tensor(at::TensorList)> fn_;
  std::function<std::vector<Tensor>()> parameters_;
  std::function<std::vector<Tensor>()> buffers_;
};

std::vector<Tensor> none() { return {}; }

}  // namespace

Linearised Field::linearise(at::TensorList x, bool) {
  return engine::linearise([this](at::TensorList leaves) { return forward(leaves); }, x,
                           parameters());
}

TokenMap Field::token_map(const Tensor& x1_like, const Tensor& x2) {
  Tensor whole = x1_like.clone();
  return [this, whole, x2](const Tensor& rows, const Tensor& index) {
    const int64_t channels = whole.size(-1);
    whole.view({-1, channels}).index_copy_(0, index, rows);
    return forward({whole, x2}).reshape({-1, channels}).index_select(0, index);
  };
}

FieldPtr field(std::function<Tensor(const Tensor&)> fn, std::vector<Tensor> parameters) {
  return detail::field([fn = std::move(fn)](at::TensorList x) { return fn(x[0]); },
                       [parameters = defined_of(std::move(parameters))] { return parameters; },
                       none);
}

FieldPtr cross_field(std::function<Tensor(const Tensor&, const Tensor&)> fn,
                     std::vector<Tensor> parameters) {
  return detail::field([fn = std::move(fn)](at::TensorList x) { return fn(x[0], x[1]); },
                       [parameters = defined_of(std::move(parameters))] { return parameters; },
                       none);
}

FieldPtr detail::field(std::function<Tensor(at::TensorList)> fn,
                       std::function<std::vector<Tensor>()> parameters,
                       std::function<std::vector<Tensor>()> buffers) {
  return std::make_shared<FunctionField>(std::move(fn), std::move(parameters), std::move(buffers));
}

}  // namespace rev::engine
