#include "rev/engine/retrofit.h"

#include <ATen/TensorOperators.h>
#include <utility>

namespace rev::engine {
namespace {

using at::Tensor;

// f_l(p) + a f_{l-1}(p~).
class NearOriginal final : public Field {
 public:
  NearOriginal(FieldPtr f, FieldPtr before, double a, int64_t inner)
      : f_(std::move(f)), before_(std::move(before)), a_(a), inner_(inner) {}

  Tensor forward(at::TensorList x) override {
    const Tensor& p = x[0];
    Tensor near = p;
    for (int64_t i = 0; i < inner_; ++i) near = p - before_->forward({near});
    return f_->forward({p}) + a_ * before_->forward({near});
  }

  std::vector<Tensor> parameters() const override {
    return joined(f_->parameters(), before_->parameters());
  }
  std::vector<Tensor> buffers() const override { return joined(f_->buffers(), before_->buffers()); }

 private:
  static std::vector<Tensor> joined(std::vector<Tensor> a, const std::vector<Tensor>& b) {
    a.insert(a.end(), b.begin(), b.end());
    return a;
  }

  FieldPtr f_, before_;
  double a_;
  int64_t inner_;
};

}  // namespace

Retrofit retrofit(const std::vector<FieldPtr>& fields, const RetrofitOptions& options) {
  const size_t n = fields.size();
  TORCH_CHECK(n > 0, "retrofit: expected at least one layer");
  TORCH_CHECK(options.inner >= 0, "retrofit: inner is ", options.inner, ", expected none below 0");
  TORCH_CHECK(options.a.size() == 1 || options.a.size() == n, "retrofit: ", n,
              " layers need one weight a or as many, got ", options.a.size());
  const std::vector<double> a = options.a.size() == 1 ? std::vector(n, options.a[0]) : options.a;
  const schemes::MidpointA rounded(a);  // its weights are those of every part of the formula
  std::vector<double> h(n, 1.0);
  std::vector<FieldPtr> layers = fields;
  for (size_t l = 1; l < n; ++l) {
    const double weight = rounded.a(static_cast<int64_t>(l));
    if (options.inner == 0) {
      h[l] = 1.0 + weight;
    } else {
      layers[l] = std::make_shared<NearOriginal>(fields[l], fields[l - 1], weight, options.inner);
    }
  }
  return {std::make_shared<schemes::MidpointA>(a, h), std::move(layers)};
}

}  // namespace rev::engine
