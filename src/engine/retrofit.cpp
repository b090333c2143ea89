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

std::shared_ptr<const schemes::MidpointA> retrofit_scheme(const RetrofitOptions& options,
                                                          int64_t n_layers) {
  const auto n = static_cast<size_t>(n_layers);
  TORCH_CHECK(n_layers > 0, "retrofit: expected at least one layer");
  TORCH_CHECK(options.inner >= 0, "retrofit: inner is ", options.inner, ", expected none below 0");
  TORCH_CHECK(options.a.size() == 1 || options.a.size() == n, "retrofit: ", n,
              " layers need one weight a or as many, got ", options.a.size());
  const std::vector<double> a = options.a.size() == 1 ? std::vector(n, options.a[0]) : options.a;
  const auto with_steps = [&](std::vector<double> h) {
    return std::make_shared<schemes::MidpointA>(a, std::move(h));
  };
  const auto rounded = with_steps({1.0});  // its weights are those of every part of the formula
  if (options.inner > 0) return rounded;
  std::vector<double> h;
  for (int64_t l = 0; l < n_layers; ++l) {
    h.push_back(l == 0 ? 1.0 : 1.0 + rounded->a(l));
    TORCH_CHECK(h.back() != 0, "retrofit: with a = -1 and inner = 0 layer ", l,
                " would do nothing; choose another a, or inner of at least 1");
  }
  return with_steps(h);
}

Retrofit retrofit(const std::vector<FieldPtr>& fields, const RetrofitOptions& options) {
  Retrofit made{retrofit_scheme(options, static_cast<int64_t>(fields.size())), fields};
  for (size_t l = 1; options.inner > 0 && l < fields.size(); ++l) {
    made.fields[l] = std::make_shared<NearOriginal>(
        fields[l], fields[l - 1], made.scheme->a(static_cast<int64_t>(l)), options.inner);
  }
  return made;
}

}  // namespace rev::engine
