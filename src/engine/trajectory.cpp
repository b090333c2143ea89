#include "rev/engine/trajectory.h"

#include <ATen/core/grad_mode.h>
#include <vector>

namespace rev::engine {
namespace {

class Plain final : public schemes::Fields {
 public:
  explicit Plain(const std::vector<FieldPtr>& fields) : fields_(fields) {}

  at::Tensor operator()(int64_t k, at::TensorList x) const override {
    return fields_[static_cast<size_t>(k)]->forward(x);
  }

 private:
  const std::vector<FieldPtr>& fields_;
};

}  // namespace

void trajectory(const Stack& stack, const at::Tensor& x,
                const std::function<void(int64_t l, const at::Tensor& p)>& visit) {
  const at::NoGradGuard no_graph;
  schemes::State s = stack.scheme().begin(x, stack.state());
  schemes::Witness nothing;
  for (int64_t l = 0; l < stack.n_layers(); ++l) {
    stack.scheme().step(l, s, Plain(stack.fields(l)), nothing);
    visit(l, stack.scheme().finish(s));
  }
}

}  // namespace rev::engine
