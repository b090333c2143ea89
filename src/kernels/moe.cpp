#include "rev/kernels/moe.h"

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <algorithm>
#include <limits>
#include <numeric>
#include <vector>

#include "cuda/dispatch.h"
#include "cuda/router.h"
#include "cuda/router_math.h"
#include "cuda/sum_math.h"
#include "kernels/device.h"
#include "kernels/vectors.h"
#include "rev/kernels/dtype.h"

namespace rev::kernels {
namespace {

using at::Tensor;
using cuda::BFloat16;
using cuda::kMostExperts;

// ---- rows ----

// The k greatest, by k passes over the keys, which are used up.
REV_VECTOR_WIDTHS void choose_row(int32_t* experts, int k, uint32_t* __restrict keys, int n) {
  for (int j = 0; j < k; ++j) {
    uint32_t greatest = 0;
    for (int e = 0; e < n; ++e) greatest = std::max(greatest, keys[e]);
    int32_t found = kMostExperts;
    for (int32_t e = 0; e < n; ++e) {
      const int32_t candidate = keys[e] == greatest ? e : kMostExperts;
      found = candidate < found ? candidate : found;
    }
    experts[j] = found;
    keys[found] = 0;
  }
}

// keys, and powers: the softmax before it is divided by its sum, which is returned.
template <class F>
REV_VECTOR_WIDTHS float softmax_row(uint32_t* __restrict keys, float* __restrict powers,
                                    const F* __restrict scores, int n) {
  uint32_t greatest = 0;
  for (int e = 0; e < n; ++e) {
    keys[e] = cuda::score_key(cuda::widen(scores[e]));
    greatest = std::max(greatest, keys[e]);
  }
  const float limit = cuda::key_score(greatest);
  for (int e = 0; e < n; ++e) powers[e] = cuda::router_power(cuda::widen(scores[e]), limit);
  return cuda::ordered_sum<cuda::kRouterLanes>(n, [&](int64_t e) { return powers[e]; });
}

void weigh_row(float* weights, const int32_t* experts, const float* powers, float sum,
               const cuda::Router& router) {
  float total = 0;
  for (int j = 0; j < router.chosen; ++j) {
    weights[j] = cuda::router_share(powers[experts[j]], sum);
    total += weights[j];
  }
  for (int j = 0; j < router.chosen && router.renormalise; ++j) {
    weights[j] = cuda::router_share(weights[j], total);
  }
}

// The gradient of the experts that were not chosen.
template <class F>
REV_VECTOR_WIDTHS void gradient_row(F* __restrict gradients, const float* __restrict powers, int n,
                                    float sum, float inner) {
  for (int e = 0; e < n; ++e) {
    const float p = cuda::router_share(powers[e], sum);
    gradients[e] = cuda::narrow<F>(cuda::router_gradient(p, 0.0f, inner));
  }
}

// sum += weight x; weights of one leave out the product.
template <class F>
REV_VECTOR_WIDTHS void add_row(float* __restrict sum, const F* __restrict x, float weight,
                               int64_t n) {
  for (int64_t i = 0; i < n; ++i) sum[i] += weight * cuda::widen(x[i]);
}

template <class F>
REV_VECTOR_WIDTHS void narrow_row(F* __restrict y, const float* __restrict sum, int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] = cuda::narrow<F>(sum[i]);
}

// dx = weight dy; returns the sum of dy x.
template <class F>
REV_VECTOR_WIDTHS float combine_backward_row(F* __restrict dx, const F* __restrict dy,
                                             const F* __restrict x, float weight, int64_t n) {
  for (int64_t i = 0; i < n; ++i) dx[i] = cuda::narrow<F>(weight * cuda::widen(dy[i]));
  return cuda::ordered_sum<32>(n,
                               [&](int64_t i) { return cuda::widen(dy[i]) * cuda::widen(x[i]); });
}

// ---- loops ----

// Runs body(row) for the rows, of about `work` elements each.
template <class Body>
void for_rows(int64_t rows, int64_t work, const Body& body) {
  at::parallel_for(0, rows, std::max<int64_t>(1, kGrain / std::max<int64_t>(work, 1)),
                   [&](int64_t begin, int64_t end) {
                     for (int64_t row = begin; row < end; ++row) body(row);
                   });
}

// Experts are chosen and written, or read.
template <bool kChoose, class F>
void weigh(int32_t* experts, float* weights, const F* scores, const cuda::Router& router) {
  for_rows(router.tokens, int64_t{router.experts} * router.chosen, [&](int64_t token) {
    uint32_t keys[kMostExperts];
    float powers[kMostExperts];
    const int64_t slot = token * router.chosen;
    const float sum = softmax_row(keys, powers, scores + token * router.experts, router.experts);
    if (kChoose) choose_row(experts + slot, router.chosen, keys, router.experts);
    weigh_row(weights + slot, experts + slot, powers, sum, router);
  });
}

template <class F>
void route_backward(F* dscores, const F* scores, const int32_t* experts, const float* weights,
                    const float* dweights, const cuda::Router& router) {
  const int n = router.experts, k = router.chosen;
  for_rows(router.tokens, int64_t{n} * 8, [&](int64_t token) {  // an exponential is worth 8
    const int64_t slot = token * k;
    float inner = 0;
    for (int64_t s = slot; s < slot + k; ++s) inner += weights[s] * dweights[s];
    F* const to = dscores + token * n;
    if (router.renormalise) {  // the softmax of the chosen scores alone
      std::fill(to, to + n, cuda::narrow<F>(0.0f));
    } else {
      uint32_t keys[kMostExperts];
      float powers[kMostExperts];
      const float sum = softmax_row(keys, powers, scores + token * n, n);
      gradient_row(to, powers, n, sum, inner);
    }
    for (int64_t s = slot; s < slot + k; ++s) {
      to[experts[s]] = cuda::narrow<F>(cuda::router_gradient(weights[s], dweights[s], inner));
    }
  });
}

// A counting sort.
void sort_by_expert(int32_t* offsets, int32_t* order, int32_t* rows, const int32_t* experts,
                    int64_t slots, int n) {
  std::fill(offsets, offsets + n + 1, 0);
  for (int64_t s = 0; s < slots; ++s) ++offsets[experts[s] + 1];
  std::partial_sum(offsets, offsets + n + 1, offsets);
  std::vector<int32_t> next(offsets, offsets + n);
  for (int64_t s = 0; s < slots; ++s) {
    const int32_t row = next[static_cast<std::size_t>(experts[s])]++;
    order[row] = static_cast<int32_t>(s);
    rows[s] = row;
  }
}

template <class F>
void combine(F* y, const F* x, const float* weights, const int32_t* rows,
             const cuda::Dispatch& size) {
  constexpr int64_t kColumns = 1024;  // whose sums stay in the first cache
  for_rows(size.tokens, size.width * size.chosen, [&](int64_t token) {
    float sum[kColumns];
    for (int64_t column = 0; column < size.width; column += kColumns) {
      const int64_t n = std::min(kColumns, size.width - column);
      std::fill(sum, sum + n, 0.0f);
      for (int64_t slot = token * size.chosen; slot < (token + 1) * size.chosen; ++slot) {
        const float weight = weights == nullptr ? 1.0f : weights[slot];  // 1 x is x
        add_row(sum, x + rows[slot] * size.width + column, weight, n);
      }
      narrow_row(y + token * size.width + column, sum, n);
    }
  });
}

// ---- arguments ----

void check_float(const char* op, const char* name, const Tensor& x) {
  check_type_of_device(op, x.device());
  TORCH_CHECK(x.dim() == 2 && is_kernel_float(x.scalar_type()), op, ": ", name,
              " must be a matrix of float32 or bfloat16, got ", x.sizes(), " of ", x.scalar_type());
}

void check_scores(const char* op, const Tensor& scores) {
  check_float(op, "scores", scores);
  TORCH_CHECK(scores.size(1) >= 1 && scores.size(1) <= kMostExperts, op,
              ": there must be 1 to 512 experts, got scores ", scores.sizes());
}

void check_chosen(const char* op, int64_t tokens, int64_t k, int64_t experts) {
  TORCH_CHECK(k >= 1 && k <= std::min<int64_t>(experts, cuda::kMostChosen), op,
              ": 1 to 16 experts of a token, and no more than there are, can be chosen; got ", k,
              " of ", experts);
  TORCH_CHECK(tokens * k <= std::numeric_limits<int32_t>::max(), op, ": ", tokens, " tokens with ",
              k, " experts each are more than 2^31 - 1 rows");
}

void check_slots(const char* op, const char* name, const Tensor& x, at::ScalarType dtype,
                 at::IntArrayRef sizes, const Tensor& like) {
  TORCH_CHECK(x.defined() && x.scalar_type() == dtype && x.sizes() == sizes && x.is_contiguous() &&
                  x.device() == like.device(),
              op, ": ", name, " must be contiguous ", dtype, " ", sizes, " on ", like.device(),
              x.defined()
                  ? c10::str(", got ", x.sizes(), " of ", x.scalar_type(), " on ", x.device())
                  : ", got none");
}

// Of a routing for n tokens, and what it is used with.
cuda::Dispatch size_of(const char* op, const Routing& r, const Tensor& like, int64_t width) {
  TORCH_CHECK(r.experts.defined() && r.experts.dim() == 2, op,
              ": the routing has no experts [N,k]");
  const int64_t tokens = r.experts.size(0), k = r.experts.size(1);
  TORCH_CHECK(k >= 1 && k <= cuda::kMostChosen, op, ": a routing must have 1 to ",
              cuda::kMostChosen, " experts of a token, got ", k);
  check_slots(op, "the routing's experts", r.experts, at::kInt, {tokens, k}, like);
  check_slots(op, "the routing's weights", r.weights, at::kFloat, {tokens, k}, like);
  check_slots(op, "the routing's order", r.order, at::kInt, {tokens * k}, like);
  check_slots(op, "the routing's rows", r.rows, at::kInt, {tokens * k}, like);
  return {tokens, static_cast<int>(k), width};
}

void check_rows(const char* op, const char* name, const Tensor& x, int64_t rows) {
  check_float(op, name, x);
  TORCH_CHECK(x.size(0) == rows, op, ": the routing has ", rows, " rows for ", name, ", got ",
              x.sizes());
}

Tensor plain(const Tensor& x) { return x.detach().contiguous(); }

// ---- operators ----

Tensor int32_like(const Tensor& x, at::IntArrayRef sizes) {
  return at::empty(sizes, x.options().dtype(at::kInt).requires_grad(false));
}

void sort(Routing& r, int64_t n_experts) {
  const int64_t slots = r.experts.numel();
  const auto n = static_cast<int>(n_experts);
  r.offsets = int32_like(r.experts, {n_experts + 1});
  r.order = int32_like(r.experts, {slots});
  r.rows = int32_like(r.experts, {slots});
  const auto* experts = r.experts.const_data_ptr<int32_t>();
  auto* offsets = r.offsets.mutable_data_ptr<int32_t>();
  auto* order = r.order.mutable_data_ptr<int32_t>();
  auto* rows = r.rows.mutable_data_ptr<int32_t>();
  const auto launch = [&](auto stream) {
    const Tensor scratch = int32_like(r.experts, {cuda::sort_scratch(slots, n)});
    cuda::launch_sort_by_expert(offsets, order, rows, scratch.mutable_data_ptr<int32_t>(), experts,
                                slots, n, stream);
  };
  if (on_device("route", r.experts, launch)) return;
  sort_by_expert(offsets, order, rows, experts, slots, n);
}

cuda::Router router_of(const Tensor& scores, int64_t k, bool renormalise) {
  return {scores.size(0), static_cast<int>(scores.size(1)), static_cast<int>(k), renormalise};
}

Tensor combined(const char* op, const Tensor& x, const float* weights, const Routing& routing,
                const cuda::Dispatch& size) {
  const Tensor y = at::empty({size.tokens, size.width}, x.options());
  const auto* rows = routing.rows.const_data_ptr<int32_t>();
  with_mutable_float(y, [&](auto* to) {
    const auto* from = static_cast<const std::remove_pointer_t<decltype(to)>*>(x.const_data_ptr());
    const auto launch = [&](auto stream) {
      cuda::launch_combine(to, from, weights, rows, size, stream);
    };
    if (on_device(op, x, launch)) return;
    combine(to, from, weights, rows, size);
  });
  return y;
}

}  // namespace

Routing route(const Tensor& scores, int64_t k, bool renormalise) {
  check_scores("route", scores);
  check_chosen("route", scores.size(0), k, scores.size(1));
  const Tensor s = plain(scores);
  const cuda::Router router = router_of(s, k, renormalise);
  Routing r;
  r.experts = int32_like(s, {s.size(0), k});
  r.weights = at::empty({s.size(0), k}, s.options().dtype(at::kFloat));
  auto* experts = r.experts.mutable_data_ptr<int32_t>();
  auto* weights = r.weights.mutable_data_ptr<float>();
  with_float(s, [&](const auto* from) {
    const auto launch = [&](auto stream) {
      cuda::launch_route(experts, weights, from, router, stream);
    };
    if (on_device("route", s, launch)) return;
    weigh<true>(experts, weights, from, router);
  });
  sort(r, s.size(1));
  return r;
}

Routing route_to(const Tensor& experts, const Tensor& scores, bool renormalise) {
  check_scores("route_to", scores);
  TORCH_CHECK(experts.dim() == 2, "route_to: experts must be [N,k], got ", experts.sizes());
  const int64_t k = experts.size(1), n_experts = scores.size(1);
  check_chosen("route_to", scores.size(0), k, n_experts);
  check_slots("route_to", "experts", experts, at::kInt, {scores.size(0), k}, scores);
  const Tensor s = plain(scores);
  const cuda::Router router = router_of(s, k, renormalise);
  Routing r;
  r.experts = experts;
  r.weights = at::empty({s.size(0), k}, s.options().dtype(at::kFloat));
  const auto* chosen = experts.const_data_ptr<int32_t>();
  TORCH_CHECK(!experts.is_cpu() || std::all_of(chosen, chosen + experts.numel(),
                                               [&](int32_t e) { return e >= 0 && e < n_experts; }),
              "route_to: experts must be 0 to ", n_experts - 1);
  auto* weights = r.weights.mutable_data_ptr<float>();
  with_float(s, [&](const auto* from) {
    const auto launch = [&](auto stream) {
      cuda::launch_route_weights(weights, from, chosen, router, stream);
    };
    if (on_device("route_to", s, launch)) return;
    weigh<false>(const_cast<int32_t*>(chosen), weights, from, router);  // they are read
  });
  sort(r, n_experts);
  return r;
}

Tensor route_backward(const Tensor& grad_weights, const Tensor& scores, const Routing& routing,
                      bool renormalise) {
  check_scores("route_backward", scores);
  const cuda::Dispatch size = size_of("route_backward", routing, scores, scores.size(1));
  check_chosen("route_backward", size.tokens, size.chosen, scores.size(1));
  check_rows("route_backward", "scores", scores, size.tokens);
  const Tensor g = plain(grad_weights), s = plain(scores);
  check_slots("route_backward", "grad_weights", g, at::kFloat, {size.tokens, size.chosen}, scores);
  const Tensor grad = at::empty_like(s);
  const cuda::Router router = router_of(s, size.chosen, renormalise);
  const auto* experts = routing.experts.const_data_ptr<int32_t>();
  const auto *weights = routing.weights.const_data_ptr<float>(),
             *dweights = g.const_data_ptr<float>();
  with_mutable_float(grad, [&](auto* to) {
    const auto* from = static_cast<const std::remove_pointer_t<decltype(to)>*>(s.const_data_ptr());
    const auto launch = [&](auto stream) {
      cuda::launch_route_backward(to, from, experts, weights, dweights, router, stream);
    };
    if (on_device("route_backward", s, launch)) return;
    route_backward(to, from, experts, weights, dweights, router);
  });
  return grad;
}

Tensor dispatch(const Tensor& x, const Routing& routing) {
  check_float("dispatch", "x", x);
  const cuda::Dispatch size = size_of("dispatch", routing, x, x.size(1));
  check_rows("dispatch", "x", x, size.tokens);
  const Tensor source = plain(x);
  const Tensor y = at::empty({size.tokens * size.chosen, size.width}, source.options());
  const auto* order = routing.order.const_data_ptr<int32_t>();
  with_mutable_float(y, [&](auto* to) {
    using F = std::remove_pointer_t<decltype(to)>;
    const auto* from = static_cast<const F*>(source.const_data_ptr());
    const auto launch = [&](auto stream) { cuda::launch_dispatch(to, from, order, size, stream); };
    if (on_device("dispatch", source, launch)) return;
    for_rows(size.tokens * size.chosen, size.width, [&](int64_t row) {
      std::copy_n(from + order[row] / size.chosen * size.width, size.width, to + row * size.width);
    });
  });
  return y;
}

Tensor dispatch_backward(const Tensor& grad, const Routing& routing) {
  check_float("dispatch_backward", "grad", grad);
  const cuda::Dispatch size = size_of("dispatch_backward", routing, grad, grad.size(1));
  check_rows("dispatch_backward", "grad", grad, size.tokens * size.chosen);
  return combined("dispatch_backward", plain(grad), nullptr, routing, size);
}

Tensor combine(const Tensor& x, const Routing& routing) {
  check_float("combine", "x", x);
  const cuda::Dispatch size = size_of("combine", routing, x, x.size(1));
  check_rows("combine", "x", x, size.tokens * size.chosen);
  return combined("combine", plain(x), routing.weights.const_data_ptr<float>(), routing, size);
}

std::pair<Tensor, Tensor> combine_backward(const Tensor& grad, const Tensor& x,
                                           const Routing& routing) {
  check_float("combine_backward", "x", x);
  const cuda::Dispatch size = size_of("combine_backward", routing, x, x.size(1));
  check_rows("combine_backward", "x", x, size.tokens * size.chosen);
  check_rows("combine_backward", "grad", grad, size.tokens);
  TORCH_CHECK(grad.scalar_type() == x.scalar_type() && grad.size(1) == x.size(1) &&
                  grad.device() == x.device(),
              "combine_backward: x is ", x.sizes(), " of ", x.scalar_type(), " on ", x.device(),
              ", but grad ", grad.sizes(), " of ", grad.scalar_type(), " on ", grad.device());
  const Tensor g = plain(grad), source = plain(x);
  const Tensor dx = at::empty_like(source), dw = at::empty_like(routing.weights);
  const auto* order = routing.order.const_data_ptr<int32_t>();
  const auto* weights = routing.weights.const_data_ptr<float>();
  auto* dweights = dw.mutable_data_ptr<float>();
  with_mutable_float(dx, [&](auto* to) {
    using F = std::remove_pointer_t<decltype(to)>;
    const auto *from = static_cast<const F*>(source.const_data_ptr()),
               *dy = static_cast<const F*>(g.const_data_ptr());
    const auto launch = [&](auto stream) {
      cuda::launch_combine_backward(to, dweights, dy, from, weights, order, size, stream);
    };
    if (on_device("combine_backward", source, launch)) return;
    for_rows(size.tokens * size.chosen, size.width, [&](int64_t row) {
      const int32_t slot = order[row];
      dweights[slot] =
          combine_backward_row(to + row * size.width, dy + slot / size.chosen * size.width,
                               from + row * size.width, weights[slot], size.width);
    });
  });
  return {dx, dw};
}

}  // namespace rev::kernels
