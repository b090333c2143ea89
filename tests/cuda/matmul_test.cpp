// Products of small whole numbers are exact in any order, so that they can be held to the bit.
#include "cuda/matmul.h"

#include <cmath>

#include "cuda/support/kernel_test.h"
#include "cuda/support/numbers.h"

namespace rev::cuda {
namespace {

using namespace testing;

class MatmulTest : public KernelTest {};

template <class T>
constexpr FloatType type_of = std::is_same_v<T, float> ? FloatType::Float32 : FloatType::BFloat16;

// A matrix of whole numbers from -4 to 4, with `margin` unused elements after each row of memory.
template <class T>
struct Matrix {
  Matrix(Random& random, int64_t rows_, int64_t columns_, bool transposed_, int64_t margin,
         int64_t shift)
      : rows(rows_),
        columns(columns_),
        transposed(transposed_),
        stride((transposed ? rows : columns) + margin),
        values(static_cast<std::size_t>((transposed ? columns : rows) * stride)),
        buffer(static_cast<int64_t>(values.size()), shift) {
    for (T& value : values) value = narrow<T>(static_cast<float>(random.integer(-4, 5)));
    copy_to_device(buffer.data(), values.data(), values.size() * sizeof(T));
  }

  float at(int64_t i, int64_t j) const {
    return widen(values[static_cast<std::size_t>(transposed ? j * stride + i : i * stride + j)]);
  }

  Operand operand() const { return {buffer.data(), stride, transposed}; }

  int64_t rows, columns;
  bool transposed;
  int64_t stride;
  std::vector<T> values;
  Buffer<T> buffer;
};

struct Case {
  int64_t m, n, k;
  bool a_transposed, b_transposed;
  int64_t margin, shift;
};

std::ostream& operator<<(std::ostream& out, const Case& c) {
  return out << c.m << " x " << c.n << " x " << c.k << (c.a_transposed ? " a^T" : "")
             << (c.b_transposed ? " b^T" : "") << " margin " << c.margin << " shift " << c.shift;
}

std::vector<Case> cases() {
  const int64_t sizes[][3] = {{1, 1, 1},    {1, 40, 9},  {33, 1, 65}, {3, 5, 7},
                              {17, 33, 31}, {8, 16, 32}, {64, 24, 40}};
  std::vector<Case> all;
  for (const auto& [m, n, k] : sizes) {
    for (const bool a : {false, true}) {
      for (const bool b : {false, true}) {
        for (const int64_t margin : {0, 3, 8}) {
          for (const int64_t shift : {0, 1}) all.push_back({m, n, k, a, b, margin, shift});
        }
      }
    }
  }
  return all;
}

// Calls body(in, out) with a value of each pair of types that products have.
template <class Body>
void for_types(const Body& body) {
  body(BFloat16{}, BFloat16{});
  body(BFloat16{}, float{});
  body(float{}, float{});
}

template <class In, class Out>
struct Setting {
  explicit Setting(const Case& of)
      : random(1),
        a(random, of.m, of.k, of.a_transposed, of.margin, of.shift),
        b(random, of.k, of.n, of.b_transposed, of.margin, of.shift),
        c(random, of.m, of.n, false, of.margin, of.shift) {}

  Product product() const {
    return {.m = a.rows,
            .n = b.columns,
            .k = a.columns,
            .in = type_of<In>,
            .out = type_of<Out>,
            .a = a.operand(),
            .b = b.operand(),
            .c = c.buffer.data(),
            .c_stride = c.stride};
  }

  float sum(int64_t i, int64_t j) const {
    float sum = 0;
    for (int64_t l = 0; l < a.columns; ++l) sum += a.at(i, l) * b.at(l, j);
    return sum;
  }

  // What c should hold, its margins as they were.
  template <class Value>
  std::vector<Out> want(const Value& value) const {
    std::vector<Out> want = c.values;
    for (int64_t i = 0; i < c.rows; ++i) {
      for (int64_t j = 0; j < c.columns; ++j) {
        want[static_cast<std::size_t>(i * c.stride + j)] = narrow<Out>(value(i, j));
      }
    }
    return want;
  }

  Random random;
  Matrix<In> a, b;
  Matrix<Out> c;
};

TEST_F(MatmulTest, MultipliesAddsAndScales) {
  for_types([](auto in, auto out) {
    for (const Case& c : cases()) {
      for (const bool add : {false, true}) {
        for (const float alpha : {1.0f, -1.0f}) {
          const Setting<decltype(in), decltype(out)> s(c);
          Product p = s.product();
          p.alpha = alpha;
          p.add = add;
          matmul(p, nullptr);
          const auto want = s.want([&](int64_t i, int64_t j) {
            return alpha * s.sum(i, j) + (add ? s.c.at(i, j) : 0.0f);
          });
          EXPECT_TRUE(same_bits(s.c.buffer.values(), want)) << c << " add " << add;
        }
      }
    }
  });
}

TEST_F(MatmulTest, AddsABias) {
  for_types([](auto in, auto out) {
    using Out = decltype(out);
    for (const Case& c : cases()) {
      Setting<decltype(in), Out> s(c);
      Matrix<Out> bias(s.random, 1, c.n, false, 0, c.shift);
      Product p = s.product();
      p.epilogue = Epilogue::Bias;
      p.vector = bias.buffer.data();
      matmul(p, nullptr);
      const auto want = s.want([&](int64_t i, int64_t j) { return s.sum(i, j) + bias.at(0, j); });
      EXPECT_TRUE(same_bits(s.c.buffer.values(), want)) << c;
    }
  });
}

TEST_F(MatmulTest, SumsAnOperandOverTheInnerDimension) {
  for_types([](auto in, auto out) {
    using Out = decltype(out);
    for (const Case& c : cases()) {
      for (const Epilogue epilogue : {Epilogue::SumA, Epilogue::SumB}) {
        const Setting<decltype(in), Out> s(c);
        const int64_t length = epilogue == Epilogue::SumA ? c.m : c.n;
        const Buffer<Out> sums(length, c.shift);
        Product p = s.product();
        p.epilogue = epilogue;
        p.vector = sums.data();
        matmul(p, nullptr);
        std::vector<Out> want;
        for (int64_t i = 0; i < length; ++i) {
          float sum = 0;
          for (int64_t l = 0; l < c.k; ++l) {
            sum += epilogue == Epilogue::SumA ? s.a.at(i, l) : s.b.at(l, i);
          }
          want.push_back(narrow<Out>(sum));
        }
        EXPECT_TRUE(same_bits(sums.values(), want)) << c;
        const auto product = s.want([&](int64_t i, int64_t j) { return s.sum(i, j); });
        EXPECT_TRUE(same_bits(s.c.buffer.values(), product)) << c;
      }
    }
  });
}

constexpr double kRoot = 0.79788456080286535588;  // of 2 / pi
constexpr double kCubic = 0.044715;

double tanh_of(double x) { return std::tanh(kRoot * (x + kCubic * x * x * x)); }
double slope_of(double x) { return kRoot * (1 + 3 * kCubic * x * x); }  // of its argument

// What the GPU's fastest tanh may be off by (2^-11, PTX's tanh.approx), doubled for the rest.
constexpr double kTanhError = 1.0 / 1024;

// A rounding to Out, relative.
template <class Out>
constexpr double kRounding = std::is_same_v<Out, float> ? 1.0 / (1 << 24) : 1.0 / (1 << 8);

TEST_F(MatmulTest, AppliesGeluAndKeepsWhatItWasAppliedTo) {
  for_types([](auto in, auto out) {
    using Out = decltype(out);
    for (const Case& c : cases()) {
      Setting<decltype(in), Out> s(c);
      Matrix<Out> bias(s.random, 1, c.n, false, 0, c.shift);
      const int64_t stride = (c.n + 7) / 8 * 8 + 8;
      const Buffer<Out> before(c.m * stride);
      Product p = s.product();
      p.alpha = 0.125f;  // most of the sums are then where gelu bends
      p.epilogue = Epilogue::GeluBias;
      p.vector = bias.buffer.data();
      p.before = before.data();
      p.before_stride = stride;
      matmul(p, nullptr);
      const auto got = s.c.buffer.values(), got_before = before.values();
      for (int64_t i = 0; i < c.m; ++i) {
        for (int64_t j = 0; j < c.n; ++j) {
          const float x = 0.125f * s.sum(i, j) + bias.at(0, j);
          EXPECT_EQ(widen(got_before[static_cast<std::size_t>(i * stride + j)]),
                    widen(narrow<Out>(x)));
          const double want = 0.5 * x * (1 + tanh_of(x));
          EXPECT_NEAR(widen(got[static_cast<std::size_t>(i * s.c.stride + j)]), want,
                      0.5 * std::abs(x) * kTanhError + std::abs(want) * kRounding<Out>)
              << c;
        }
      }
    }
  });
}

TEST_F(MatmulTest, MultipliesByGelusDerivativeAndSumsForTheBias) {
  for_types([](auto in, auto out) {
    using Out = decltype(out);
    for (const Case& c : cases()) {
      Setting<decltype(in), Out> s(c);
      const Matrix<Out> before(s.random, c.m, (c.n + 7) / 8 * 8, false, 0, 0);
      const Buffer<Out> sums(c.n, c.shift);
      Product p = s.product();
      p.epilogue = Epilogue::GeluBackward;
      p.vector = sums.data();
      p.before = before.buffer.data();
      p.before_stride = before.stride;
      matmul(p, nullptr);
      const auto got = s.c.buffer.values(), got_sums = sums.values();
      for (int64_t j = 0; j < c.n; ++j) {
        double sum = 0, sum_error = 0, magnitude = 0;
        for (int64_t i = 0; i < c.m; ++i) {
          const double x = before.at(i, j), t = tanh_of(x), g = s.sum(i, j);
          const double want = g * (0.5 * (1 + t) + 0.5 * x * (1 - t * t) * slope_of(x));
          // The derivative of gelu' in t is 1/2 - x t slope.
          const double error = std::abs(g) * (0.5 + std::abs(x) * slope_of(x)) * kTanhError;
          EXPECT_NEAR(widen(got[static_cast<std::size_t>(i * s.c.stride + j)]), want,
                      error + std::abs(want) * kRounding<Out>)
              << c;
          sum += want;
          sum_error += error;
          magnitude += std::abs(want);
        }
        // Whether c is rounded before it is summed is the library's to choose.
        EXPECT_NEAR(widen(got_sums[static_cast<std::size_t>(j)]), sum,
                    sum_error + (magnitude + std::abs(sum)) * kRounding<Out>)
            << c;
      }
    }
  });
}

TEST_F(MatmulTest, RefusesWhatDoesNotFit) {
  const Setting<BFloat16, float> s({3, 5, 7, false, false, 0, 0});
  const auto refused = [&](const auto& change) {
    Product p = s.product();
    change(p);
    try {
      matmul(p, nullptr);
    } catch (const std::invalid_argument& error) {
      return std::string(error.what());
    }
    return std::string("taken");
  };
  const auto says = [](const std::string& message, const char* part) {
    return message.find(part) != std::string::npos ? ::testing::AssertionSuccess()
                                                   : ::testing::AssertionFailure() << message;
  };
  EXPECT_TRUE(says(refused([](Product&) {}), "taken"));
  EXPECT_TRUE(says(refused([](Product& p) { p.k = 0; }), "sizes must be 1 to 2^31 - 1"));
  EXPECT_TRUE(says(refused([](Product& p) { p.m = int64_t{1} << 31; }), "[2147483648,7]"));
  EXPECT_TRUE(says(refused([](Product& p) { p.a.stride = 6; }), "stride of a"));
  EXPECT_TRUE(says(refused([](Product& p) { p.b.stride = 4; }), "stride of b"));
  EXPECT_TRUE(says(refused([](Product& p) { p.b.transposed = true; }), "stride of b"));
  EXPECT_TRUE(says(refused([](Product& p) { p.c_stride = 4; }), "stride of c"));
  EXPECT_TRUE(says(refused([](Product& p) {
                     p.in = FloatType::Float32;
                     p.out = FloatType::BFloat16;
                   }),
                   "float32 operands have a float32 product"));
  EXPECT_TRUE(says(refused([](Product& p) { p.epilogue = Epilogue::Bias; }), "vector is missing"));
  const Buffer<float> vector(5), before(24);
  const auto with_before = [&](Product& p, int64_t offset, int64_t stride) {
    p.epilogue = Epilogue::GeluBias;
    p.vector = vector.data();
    p.before = before.data() + offset;
    p.before_stride = stride;
  };
  EXPECT_TRUE(says(refused([&](Product& p) { with_before(p, 1, 8); }), "aligned to 16 bytes"));
  EXPECT_TRUE(says(refused([&](Product& p) { with_before(p, 0, 5); }), "multiple of 8"));
}

}  // namespace
}  // namespace rev::cuda
