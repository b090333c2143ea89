// How cuda/matmul.cpp uses cublasLt: held to what the stand-in has recorded.
#include "emulator/cublaslt.h"

#include <cstdlib>
#include <cstring>
#include <gtest/gtest.h>
#include <set>
#include <thread>

#include "cuda/matmul.h"
#include "cuda/support/numbers.h"

namespace rev::cuda {
namespace {

using emulator::cublaslt;

Stream stream(uintptr_t number) { return reinterpret_cast<Stream>(number); }

// What was chosen and allocated lasts as long as the process: every test has a device of its own.
class CublasLtTest : public ::testing::Test {
 protected:
  void SetUp() override {
    cublaslt() = {};
    take_new_device();
  }
  void TearDown() override { cublaslt() = {}; }

  static void take_new_device() {
    static int devices = 0;
    cublaslt().device = ++devices;
  }

  // A product with memory of its own.
  struct Numbers {
    explicit Numbers(int64_t n_ = 24) : n(n_) {
      std::vector<float> values = testing::Random(7).reals<float>(3 * n * n, 1.0f);
      for (int i = 0; i < 3; ++i) {
        data[i] = static_cast<float*>(std::aligned_alloc(64, sizeof(float) * 2048));
        std::memcpy(data[i], values.data() + i * n * n, sizeof(float) * unsigned(n * n));
      }
    }
    Numbers(const Numbers&) = delete;
    ~Numbers() {
      for (float* memory : data) std::free(memory);
    }
    Product product() const {
      return {.m = n,
              .n = n,
              .k = n,
              .in = FloatType::Float32,
              .out = FloatType::Float32,
              .a = {data[0], n},
              .b = {data[1], n},
              .c = data[2],
              .c_stride = n};
    }
    std::vector<float> result() const { return {data[2], data[2] + n * n}; }

    int64_t n;
    float* data[3];
  };

  std::string failure(const Product& p, Stream on = nullptr) {
    try {
      matmul(p, on);
    } catch (const std::runtime_error& error) {
      return error.what();
    }
    return "";
  }
};

bool contains(const std::string& text, const char* part) {
  return text.find(part) != std::string::npos;
}

TEST_F(CublasLtTest, AProductIsSearchedForOnce) {
  const Numbers x;
  for (int i = 0; i < 5; ++i) matmul(x.product(), nullptr);
  EXPECT_EQ(cublaslt().searches, 1);
  EXPECT_EQ(cublaslt().handles, 1);
  EXPECT_EQ(cublaslt().calls.size(), 5u);
}

TEST_F(CublasLtTest, SeveralThreadsSearchOnce) {
  constexpr int kThreads = 8, kCalls = 20;
  cublaslt().search_milliseconds = 50;  // for the others to come meanwhile
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([t] {
      const Numbers x;
      for (int i = 0; i < kCalls; ++i) matmul(x.product(), stream(1 + t % 2));
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(cublaslt().searches, 1);
  EXPECT_EQ(cublaslt().handles, 1);
  EXPECT_EQ(cublaslt().allocations.size(), 2u);
  std::set<uint64_t> algorithms;
  for (const auto& call : cublaslt().calls) algorithms.insert(call.algorithm);
  EXPECT_EQ(algorithms.size(), 1u);
  EXPECT_EQ(cublaslt().calls.size(), std::size_t{kThreads * kCalls});
}

TEST_F(CublasLtTest, WhatTheChoiceDependsOnIsSearchedForAnew) {
  const Numbers x(16), y(32);
  alignas(16) float vector[64] = {};
  int searches = 0;
  const auto searches_anew = [&](const auto& change) {
    Product p = x.product();
    p.m = p.n = p.k = 8;
    change(p);
    matmul(p, nullptr);
    const bool anew = cublaslt().searches == searches + 1;
    searches = cublaslt().searches;
    return anew;
  };
  EXPECT_TRUE(searches_anew([](Product&) {}));
  EXPECT_TRUE(searches_anew([](Product& p) { p.m = 7; }));
  EXPECT_TRUE(searches_anew([](Product& p) { p.n = 7; }));
  EXPECT_TRUE(searches_anew([](Product& p) { p.k = 7; }));
  EXPECT_TRUE(searches_anew([](Product& p) { p.a.stride = 15; }));
  EXPECT_TRUE(searches_anew([](Product& p) { p.b.stride = 15; }));
  EXPECT_TRUE(searches_anew([](Product& p) { p.c_stride = 15; }));
  EXPECT_TRUE(searches_anew([](Product& p) { p.a.transposed = true; }));
  EXPECT_TRUE(searches_anew([](Product& p) { p.b.transposed = true; }));
  EXPECT_TRUE(searches_anew([](Product& p) { p.in = FloatType::BFloat16; }));
  EXPECT_TRUE(searches_anew([](Product& p) { p.in = p.out = FloatType::BFloat16; }));
  EXPECT_TRUE(searches_anew([](Product& p) { p.tf32 = true; }));
  const auto displace = [](const void* p) { return static_cast<const float*>(p) + 1; };
  EXPECT_TRUE(searches_anew([&](Product& p) { p.a.data = displace(p.a.data); }));
  EXPECT_TRUE(searches_anew([&](Product& p) { p.b.data = displace(p.b.data); }));
  EXPECT_TRUE(searches_anew([](Product& p) { p.c = static_cast<float*>(p.c) + 1; }));
  for (const Epilogue epilogue : {Epilogue::Bias, Epilogue::SumA, Epilogue::SumB}) {
    const auto change = [&](Product& p) { p.epilogue = epilogue, p.vector = vector; };
    EXPECT_TRUE(searches_anew(change));
    EXPECT_FALSE(searches_anew(change));
  }
  EXPECT_TRUE(
      searches_anew([&](Product& p) { p.epilogue = Epilogue::Bias, p.vector = vector + 1; }));
  EXPECT_FALSE(searches_anew([](Product& p) { p.alpha = 3; }));
  EXPECT_FALSE(searches_anew([](Product& p) { p.add = true; }));
  EXPECT_FALSE(searches_anew([&](Product& p) { p.a.data = y.data[1]; }));
  EXPECT_FALSE(searches_anew([](Product& p) { p.c = static_cast<float*>(p.c) + 4; }));
  take_new_device();
  EXPECT_TRUE(searches_anew([](Product&) {}));
}

TEST_F(CublasLtTest, TheRecomputeTakesTheAlgorithmOfTheForward) {
  const Numbers x;
  matmul(x.product(), nullptr);
  const auto forward = x.result();
  for (int64_t n = 1; n < 8; ++n) {  // other layers
    Product p = x.product();
    p.n = n;
    matmul(p, nullptr);
  }
  const Numbers again;
  matmul(again.product(), stream(5));
  EXPECT_EQ(cublaslt().calls.back().algorithm, cublaslt().calls.front().algorithm);
  EXPECT_EQ(again.result(), forward);

  // That these bits are the algorithm's: a device for which another one was found gives others.
  take_new_device();
  matmul(again.product(), nullptr);
  EXPECT_NE(cublaslt().calls.back().algorithm, cublaslt().calls.front().algorithm);
  EXPECT_NE(again.result(), forward);
}

TEST_F(CublasLtTest, AlgorithmsThatSplitSumsAreNotTaken) {
  const Numbers x;
  for (const bool ignores_mask : {false, true}) {
    take_new_device();
    cublaslt().ignores_mask = ignores_mask;
    matmul(x.product(), nullptr);
    const auto first = x.result();
    matmul(x.product(), nullptr);
    EXPECT_EQ(x.result(), first);
    cublaslt().only_split_sums = true;
    Product p = x.product();
    p.k = 9;
    EXPECT_TRUE(contains(failure(p),
                         "no algorithm that takes each sum in one piece: "
                         "float32 [24,9] of stride 24 by [9,24]"));
    cublaslt().only_split_sums = false;
    EXPECT_EQ(failure(p), "");
  }
}

TEST_F(CublasLtTest, AStreamHasOneWorkspace) {
  const Numbers x;
  for (const int64_t n : {3, 5, 3}) {
    for (const uintptr_t s : {1, 2}) {
      Product p = x.product();
      p.n = n;
      matmul(p, stream(s));
    }
  }
  EXPECT_EQ(cublaslt().allocations, (std::vector<std::size_t>{32 << 20, 32 << 20}));
  for (const auto& call : cublaslt().calls) {
    EXPECT_EQ(call.workspace_bytes, std::size_t{32 << 20});
    for (const auto& other : cublaslt().calls) {
      EXPECT_EQ(call.workspace == other.workspace, call.stream == other.stream);
    }
  }
  take_new_device();  // with a stream 1 of its own
  matmul(x.product(), stream(1));
  EXPECT_EQ(cublaslt().allocations.size(), 3u);
  EXPECT_NE(cublaslt().calls.back().workspace, cublaslt().calls.front().workspace);
}

TEST_F(CublasLtTest, AFailureNamesTheCallAndLeavesNothingBehind) {
  const Numbers x;
  for (const char* function :
       {"cublasLtCreate", "cublasLtMatmulAlgoGetHeuristic", "cudaMalloc", "cublasLtMatmul"}) {
    take_new_device();
    cublaslt().failing = function;
    cublaslt().status = CUBLAS_STATUS_NOT_SUPPORTED;
    const std::string message = failure(x.product());
    EXPECT_TRUE(contains(message, function)) << message;
    EXPECT_TRUE(contains(message, "refused by the")) << message;
    if (std::string(function) != "cudaMalloc") {
      EXPECT_TRUE(contains(message, "CUBLAS_STATUS_NOT_SUPPORTED")) << message;
    }
    cublaslt().failing.clear();
    EXPECT_EQ(failure(x.product()), "") << function;
  }
}

TEST_F(CublasLtTest, WhatSearchesOrAllocatesIsNotCaptured) {
  const Numbers x;
  cublaslt().capturing = true;
  EXPECT_TRUE(contains(failure(x.product(), stream(1)),
                       "the first product of its sizes on a device came while"));
  EXPECT_EQ(cublaslt().searches, 0);
  EXPECT_TRUE(cublaslt().allocations.empty());

  cublaslt().capturing = false;
  EXPECT_EQ(failure(x.product(), stream(1)), "");
  cublaslt().capturing = true;
  EXPECT_EQ(failure(x.product(), stream(1)), "");
  EXPECT_TRUE(
      contains(failure(x.product(), stream(2)), "the first product on a stream came while"));
  EXPECT_EQ(cublaslt().allocations.size(), 1u);
}

}  // namespace
}  // namespace rev::cuda
