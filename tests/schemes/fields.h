// Plain functions as the fields of a layer, for testing schemes by algebra alone.
#pragma once

#include <functional>
#include <vector>

#include "rev/schemes/scheme.h"

namespace rev::schemes {

class TestFields final : public Fields {
 public:
  using Function = std::function<at::Tensor(at::TensorList)>;

  explicit TestFields(std::vector<Function> fields) : fields_(std::move(fields)) {}

  at::Tensor operator()(int64_t k, at::TensorList x) const override {
    ++calls_;
    return fields_.at(static_cast<size_t>(k))(x);
  }

  std::function<at::Tensor(const at::Tensor&, const at::Tensor&)> token_map(
      int64_t k, const at::Tensor& x1_like, const at::Tensor& x2) const override {
    const at::Tensor whole = x1_like.clone();
    return [this, k, whole, x2](const at::Tensor& rows, const at::Tensor& index) {
      whole.view({-1, whole.size(-1)}).index_copy_(0, index, rows);
      const at::Tensor y = fields_.at(static_cast<size_t>(k))({whole, x2});
      return y.reshape({-1, whole.size(-1)}).index_select(0, index);
    };
  }

  int calls() const { return calls_; }

 private:
  std::vector<Function> fields_;
  mutable int calls_ = 0;
};

}  // namespace rev::schemes
