#include "rev/kernels/matmul.h"

#include <ATen/autocast_mode.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "support/throws.h"

namespace rev::kernels {
namespace {

using at::Tensor;

double unit_of(at::ScalarType dtype) { return dtype == at::kFloat ? 0x1p-24 : 0x1p-8; }

struct Types {
  at::ScalarType in, out;
};

constexpr Types kTypes[] = {
    {at::kFloat, at::kFloat}, {at::kBFloat16, at::kBFloat16}, {at::kBFloat16, at::kFloat}};

struct Size {
  int64_t m, n, k;
};

constexpr Size kSizes[] = {{1, 1, 1}, {1, 24, 5}, {33, 1, 9}, {3, 5, 7}, {16, 32, 8}, {40, 17, 65}};

// The same matrix in the ways that memory can have it.
std::vector<Tensor> layouts(const Tensor& x) {
  const int64_t rows = x.size(0), columns = x.size(1);
  const Tensor wide = torch::zeros({rows, columns + 3}, x.options());
  const Tensor sparse = torch::zeros({rows, 2 * columns}, x.options());
  wide.narrow(1, 1, columns).copy_(x);
  sparse.slice(1, 0, 2 * columns, 2).copy_(x);
  std::vector<Tensor> all = {x, x.t().contiguous().t(), wide.narrow(1, 1, columns),
                             sparse.slice(1, 0, 2 * columns, 2)};
  // The stride of a single row says nothing.
  if (rows == 1) all.push_back(x.as_strided({1, columns}, {1, 1}));
  return all;
}

// a b and |a| |b| in float64.
struct Reference {
  Reference(const Tensor& a, const Tensor& b)
      : product(a.to(at::kDouble).mm(b.to(at::kDouble))),
        magnitude(a.abs().to(at::kDouble).mm(b.abs().to(at::kDouble))),
        // K products and as many sums round, in any order.
        error(magnitude * (2.0 * static_cast<double>(a.size(1)) * 0x1p-24)) {}

  Tensor product, magnitude, error;
};

void expect_within(const Tensor& got, const Tensor& want, const Tensor& bound, Types types) {
  EXPECT_EQ(got.scalar_type(), types.out);
  EXPECT_EQ(got.sizes(), want.sizes());
  const Tensor off = (got.to(at::kDouble) - want).abs();
  EXPECT_TRUE(off.le(bound).all().item<bool>())
      << want.sizes() << " " << types.in << " to " << types.out << ": off by "
      << (off - bound).max().item<double>() << " more than the bound";
}

template <class Body>
void for_cases(const Body& body) {
  for (const Types types : kTypes) {
    for (const auto [m, n, k] : kSizes) {
      const Tensor a = torch::randn({m, k}).to(types.in), b = torch::randn({k, n}).to(types.in);
      for (const Tensor& left : layouts(a)) {
        for (const Tensor& right : layouts(b)) body(types, left, right);
      }
    }
  }
}

TEST(MatmulTest, MultipliesInFloat32) {
  for_cases([](Types types, const Tensor& a, const Tensor& b) {
    const Reference r(a, b);
    expect_within(kernels::matmul(a, b, types.out), r.product,
                  r.error + r.product.abs() * unit_of(types.out), types);
  });
}

TEST(MatmulTest, AddsToMemoryThatIsThere) {
  for_cases([](Types types, const Tensor& a, const Tensor& b) {
    const Reference r(a, b);
    const Tensor start = torch::randn(r.product.sizes()).to(types.out);
    Tensor memory = torch::full({start.size(0) + 1, start.size(1) + 2}, NAN, start.options());
    Tensor c = memory.narrow(0, 0, start.size(0)).narrow(1, 1, start.size(1));
    c.copy_(start);
    matmul_add_(c, a, b, -0.5);
    const Tensor want = start.to(at::kDouble) - 0.5 * r.product;
    // ATen may round the product before it adds.
    expect_within(c, want, r.error + (r.product.abs() + want.abs()) * unit_of(types.out), types);
    EXPECT_EQ(memory.isnan().sum().item<int64_t>(), memory.numel() - c.numel());
  });
}

TEST(MatmulTest, AddsABias) {
  for_cases([](Types types, const Tensor& a, const Tensor& b) {
    const Reference r(a, b);
    const Tensor bias = torch::randn({b.size(1)}).to(types.out);
    const Tensor want = r.product + bias.to(at::kDouble);
    expect_within(matmul_bias(a, b, bias), want,
                  r.error + (r.product.abs() + want.abs()) * unit_of(types.out), types);
  });
}

TEST(MatmulTest, AppliesGeluToTheProductWithABias) {
  for_cases([](Types types, const Tensor& a, const Tensor& b) {
    if (types.in != types.out) return;
    const Reference r(a, b);
    const Tensor bias = torch::randn({b.size(1)}).to(types.out);
    const auto [value, before] = matmul_bias_gelu(a, b, bias);
    const Tensor x = r.product + bias.to(at::kDouble);
    const Tensor error = r.error + (r.product.abs() + x.abs()) * unit_of(types.out);
    expect_within(before, x, error, types);
    // |gelu'| < 1.13; its own formula in float32 has no more than 8 roundings of numbers below
    // 2 |x|, and the result rounds.
    const Tensor want = at::gelu(x, "tanh");
    expect_within(value, want,
                  error * 1.13 + x.abs() * 16 * 0x1p-24 + want.abs() * unit_of(types.out), types);
  });
}

TEST(MatmulTest, MultipliesByTheDerivativeOfGeluAndSums) {
  for_cases([](Types types, const Tensor& a, const Tensor& b) {
    if (types.in != types.out) return;
    const Reference r(a, b);
    const Tensor x = torch::randn(r.product.sizes()).to(types.out);
    for (const Tensor& before : layouts(x)) {
      const auto [value, sum] = matmul_gelu_backward(a, b, before);
      const Tensor want = at::gelu_backward(r.product, x.to(at::kDouble), "tanh");
      // The product may round before it is multiplied by a number below 1.13, which is off by 16
      // roundings of numbers below 2; the result rounds.
      const Tensor error = r.error * 1.13 +
                           r.product.abs() * (32 * 0x1p-24 + 1.13 * unit_of(types.out)) +
                           want.abs() * unit_of(types.out);
      expect_within(value, want, error, types);
      const double rows = static_cast<double>(a.size(0));
      expect_within(sum, want.sum(0),
                    error.sum(0) + want.abs().sum(0) * rows * 0x1p-24 +
                        want.sum(0).abs() * unit_of(types.out),
                    types);
    }
  });
}

TEST(MatmulTest, SumsAnOperandBesideTheProduct) {
  for_cases([](Types types, const Tensor& a, const Tensor& b) {
    const Reference r(a, b);
    const double k = static_cast<double>(a.size(1));
    const auto check = [&](const std::pair<Tensor, Tensor>& got, const Tensor& x, int64_t dim) {
      expect_within(got.first, r.product, r.error + r.product.abs() * unit_of(types.out), types);
      const Tensor sum = x.to(at::kDouble).sum(dim);
      expect_within(got.second, sum,
                    x.abs().to(at::kDouble).sum(dim) * k * 0x1p-24 + sum.abs() * unit_of(types.out),
                    types);
    };
    check(matmul_sum_a(a, b, types.out), a, 1);
    check(matmul_sum_b(a, b, types.out), b, 0);
  });
}

TEST(MatmulTest, TheSameCallGivesTheSameBits) {
  for (const Types types : kTypes) {
    const Tensor a = torch::randn({65, 130}).to(types.in), b = torch::randn({130, 33}).to(types.in);
    const Tensor bias = torch::randn({33}).to(types.in), x = torch::randn({65, 33}).to(types.in);
    const auto run = [&] {
      const auto [gelu, before] = matmul_bias_gelu(a, b, bias);
      const auto [back, sums] = matmul_gelu_backward(a, b, x);
      const auto [product, columns] = matmul_sum_b(a, b, types.out);
      return std::vector<Tensor>{kernels::matmul(a, b, types.out),
                                 matmul_bias(a, b, bias),
                                 gelu,
                                 before,
                                 back,
                                 sums,
                                 product,
                                 columns,
                                 matmul_sum_a(a, b, types.out).second};
    };
    const auto first = run(), second = run();
    for (size_t i = 0; i < first.size(); ++i) EXPECT_TRUE(at::equal(first[i], second[i])) << i;
  }
}

TEST(MatmulTest, HeedsNeitherGraphsNorAutocast) {
  const Tensor a = torch::randn({8, 16}).requires_grad_(),
               b = torch::randn({16, 8}).requires_grad_();
  const Tensor want = kernels::matmul(a, b);
  EXPECT_FALSE(want.requires_grad());
  at::autocast::set_autocast_enabled(at::kCPU, true);
  const Tensor got = kernels::matmul(a, b);
  const Tensor biased = matmul_bias(a, b, torch::zeros({8}));
  at::autocast::set_autocast_enabled(at::kCPU, false);
  EXPECT_TRUE(at::equal(got, want));
  EXPECT_EQ(biased.scalar_type(), at::kFloat);
}

TEST(MatmulTest, EmptyProducts) {
  const Tensor none = torch::empty({3, 0}), bias = torch::ones({4});
  EXPECT_TRUE(at::equal(kernels::matmul(none, torch::empty({0, 4})), torch::zeros({3, 4})));
  EXPECT_TRUE(at::equal(matmul_bias(none, torch::empty({0, 4}), bias), torch::ones({3, 4})));
  Tensor c = torch::ones({3, 4});
  matmul_add_(c, none, torch::empty({0, 4}));
  EXPECT_TRUE(at::equal(c, torch::ones({3, 4})));
  const auto [product, sum] = matmul_sum_b(torch::empty({0, 5}), torch::randn({5, 4}));
  EXPECT_EQ(product.numel(), 0);
  EXPECT_EQ(sum.sizes(), (std::vector<int64_t>{4}));
  EXPECT_TRUE(
      at::equal(matmul_gelu_backward(none, torch::empty({0, 4}), torch::randn({3, 4})).second,
                torch::zeros({4})));
}

TEST(MatmulTest, OtherDtypesAreMultipliedByATen) {
  const Tensor a = torch::randn({3, 4}, at::kDouble), b = torch::randn({4, 5}, at::kDouble);
  EXPECT_TRUE(at::equal(kernels::matmul(a, b), a.mm(b)));
}

TEST(MatmulTest, RefusesWhatDoesNotFit) {
  const Tensor a = torch::randn({3, 4}), b = torch::randn({4, 5});
  EXPECT_THROW_WITH(kernels::matmul(a, b.t()), "got [3, 4] and [5, 4]");
  EXPECT_THROW_WITH(kernels::matmul(a[0], b), "a [M,K] and b [K,N]");
  EXPECT_THROW_WITH(kernels::matmul(a, b.to(at::kBFloat16)), "one floating dtype");
  EXPECT_THROW_WITH(kernels::matmul(a, b, at::kBFloat16), "a product of Float cannot be BFloat16");
  EXPECT_THROW_WITH(matmul_bias(a, b, torch::randn({4})), "bias must be [5]");
  EXPECT_THROW_WITH(matmul_bias_gelu(a, b, torch::randn({5}, at::kDouble)), "bias must be Float");
  EXPECT_THROW_WITH(matmul_gelu_backward(a, b, torch::randn({3, 4})), "before must be [3, 5]");
  EXPECT_THROW_WITH(matmul_gelu_backward(a, b, torch::randn({3, 5}, at::kDouble)),
                    "before must be Float");
  Tensor c = torch::zeros({5, 3}).t();
  EXPECT_THROW_WITH(matmul_add_(c, a, b), "rows of c must be dense");
  Tensor small = torch::zeros({3, 4});
  EXPECT_THROW_WITH(matmul_add_(small, a, b), "c must be [3, 5]");
}

}  // namespace
}  // namespace rev::kernels
