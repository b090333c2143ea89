// A layer's part as a field, from the modules that it reads.
#pragma once

#include <ATen/core/Tensor.h>
#include <functional>
#include <memory>
#include <string>
#include <torch/nn/module.h>
#include <utility>
#include <vector>

#include "rev/engine/field.h"

namespace rev::models {

/// A field that can be told to leave out its last product.
class BlockField : public engine::Field {
 public:
  using Value = std::function<at::Tensor(at::TensorList x, bool need_value)>;
  using Modules = std::vector<std::shared_ptr<torch::nn::Module>>;

  BlockField(Value value, Modules modules)
      : value_(std::move(value)), modules_(std::move(modules)) {}

  at::Tensor forward(at::TensorList x) override { return value_(x, true); }

  std::vector<at::Tensor> parameters() const override {
    std::vector<at::Tensor> all;
    for (const auto& module : modules_) {
      for (at::Tensor& parameter : module->parameters()) all.push_back(std::move(parameter));
    }
    return all;
  }

  engine::Linearised linearise(at::TensorList x, bool need_value) override {
    return engine::linearise([&](at::TensorList in) { return value_(in, need_value); }, x,
                             parameters());
  }

 private:
  Value value_;
  Modules modules_;
};

/// The fields of a pre-norm transformer layer, in the order of the scheme:
///   hamiltonian   f(p) = Attn(N1 p)
///                 g(q) = MLP(N2 q)
///   the others    f(p) = A + MLP(N2(p + A)), A = Attn(N1 p)   (arXiv 2512.02056, eq 5)
///
/// Where a field's value is not needed, its last product is left out. The fields keep the modules
/// alive.
template <class Norm, class Attention, class Mlp>
std::vector<engine::FieldPtr> make_block_fields(Norm norm_1, Attention attention, Norm norm_2,
                                                Mlp mlp, const std::string& scheme) {
  using Modules = BlockField::Modules;
  if (scheme == "hamiltonian") {
    const auto f = [=](at::TensorList p, bool need_value) mutable {
      return attention->forward(norm_1->operand(p[0]), need_value);
    };
    const auto g = [=](at::TensorList q, bool need_value) mutable {
      return mlp->forward(norm_2->operand(q[0]), need_value);
    };
    return {std::make_shared<BlockField>(f, Modules{norm_1.ptr(), attention.ptr()}),
            std::make_shared<BlockField>(g, Modules{norm_2.ptr(), mlp.ptr()})};
  }
  const auto f = [=](at::TensorList p, bool need_value) mutable {
    const at::Tensor a = attention->forward(norm_1->operand(p[0]));
    return a + mlp->forward(norm_2->operand(p[0] + a), need_value);
  };
  return {std::make_shared<BlockField>(
      f, Modules{norm_1.ptr(), attention.ptr(), norm_2.ptr(), mlp.ptr()})};
}

}  // namespace rev::models
