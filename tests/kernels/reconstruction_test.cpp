#include "rev/kernels/reconstruction.h"

#include <ATen/Parallel.h>
#include <cmath>
#include <gtest/gtest.h>
#include <limits>
#include <torch/torch.h>

#include "support/throws.h"

namespace rev::kernels {
namespace {

using at::Tensor;

Tensor sums(int64_t n) {
  return torch::randint(std::numeric_limits<int64_t>::min() / 2,
                        std::numeric_limits<int64_t>::max() / 2, {n}, at::kLong);
}

std::vector<int64_t> first_of(const Tensor& rows) {
  std::vector<int64_t> first;
  for (int64_t i = 0; i < std::min<int64_t>(rows.numel(), 8); ++i) {
    first.push_back(rows[i].item<int64_t>());
  }
  return first;
}

TEST(ReconstructionTest, CountsAndNamesTheRowsThatDiffer) {
  for (const int64_t n : {0, 1, 7, 8, 9, 1000, 40000}) {
    for (const double share : {0.0, 0.001, 0.02, 1.0}) {
      const Tensor a = sums(n), differs = torch::rand({n}) < share;
      const Tensor b = a.bitwise_xor(differs.to(at::kLong).bitwise_left_shift(40));
      const RowRecord read = read_row_record(compare_rows(a, b));
      EXPECT_EQ(read.compared, n);
      EXPECT_EQ(read.differing, differs.sum().item<int64_t>());
      EXPECT_EQ(read.first, first_of(differs.nonzero().flatten())) << n << " " << share;
    }
  }
}

TEST(ReconstructionTest, SlotsOfAPassGatherTheirOwnComparisons) {
  Tensor records = new_row_records(3, c10::kCPU);
  const Tensor a = sums(100);
  Tensor b = a.clone(), c = a.clone();
  b[40].add_(1);
  b[90].add_(1);
  c[40].sub_(1);
  c[3].sub_(1);
  compare_rows(a, b, records[1]);
  const Tensor slot = records[1];
  EXPECT_TRUE(compare_rows(a, c, slot).is_same(slot));
  compare_rows(a, a, records[2]);
  const auto expect = [&](int64_t l, int64_t compared, int64_t differing,
                          const std::vector<int64_t>& first) {
    const RowRecord read = read_row_record(records[l]);
    EXPECT_EQ(read.compared, compared) << l;
    EXPECT_EQ(read.differing, differing) << l;
    EXPECT_EQ(read.first, first) << l;
  };
  expect(0, 0, 0, {});
  expect(1, 200, 4, {3, 40, 90});
  expect(2, 100, 0, {});
}

TEST(ReconstructionTest, DriftIsExactInFloat32AndFloat64) {
  for (const auto dtype : {at::kFloat, at::kDouble}) {
    for (const auto& shape : std::vector<std::vector<int64_t>>{{1}, {3, 7}, {4, 33}, {50, 1025}}) {
      const Tensor a = torch::randn(shape, dtype) * 5, b = a + torch::randn(shape, dtype) * 1e-3;
      const Tensor record = drift(a, b);
      EXPECT_TRUE(at::equal(record, torch::stack({(a - b).abs().max(), a.abs().max()})));
      const Drift read = read_drift(record);
      EXPECT_EQ(read.largest, record[0].item<double>());
      EXPECT_EQ(read.relative, record[0].item<double>() / record[1].item<double>());
      // A smaller drift does not lower a record, a larger one raises it.
      drift(a, a, record);
      EXPECT_EQ(read_drift(record).largest, read.largest);
      drift(a, a + 2, record);
      EXPECT_GE(read_drift(record).largest, 1.99);
      EXPECT_TRUE(at::equal(drift(a.t(), b.t()), drift(a, b)));
    }
  }
}

TEST(ReconstructionTest, DriftShowsWhatIsNotFinite) {
  for (const auto dtype : {at::kFloat, at::kDouble}) {
    for (const int64_t place : {0, 100, 5000}) {
      const Tensor a = torch::ones({5001}, dtype);
      Tensor b = a.clone();
      b[place] = std::numeric_limits<double>::quiet_NaN();
      const Tensor record = drift(a, b);
      EXPECT_TRUE(std::isnan(read_drift(record).largest));
      EXPECT_TRUE(std::isnan(read_drift(record).relative));
      drift(a, a, record);
      EXPECT_TRUE(std::isnan(read_drift(record).largest));
      b[place] = -std::numeric_limits<double>::infinity();
      EXPECT_TRUE(std::isinf(read_drift(drift(a, b)).largest));
      EXPECT_TRUE(std::isinf(read_drift(drift(a, b)).relative));
      EXPECT_TRUE(std::isinf(read_drift(drift(torch::zeros_like(a), b)).relative));
    }
    const Tensor none = torch::zeros({3}, dtype);
    EXPECT_EQ(read_drift(drift(none, none)).relative, 0.0);
    EXPECT_TRUE(std::isinf(read_drift(drift(none, none + 1)).relative));
    EXPECT_EQ(read_drift(drift(none.narrow(0, 0, 0), none.narrow(0, 0, 0))).largest, 0.0);
  }
}

TEST(ReconstructionTest, RecordsDoNotDependOnTheNumberOfThreads) {
  const Tensor a = sums(100000), b = a.bitwise_xor((torch::rand({100000}) < 1e-3).to(at::kLong));
  const Tensor x = torch::randn({100000}), y = torch::randn({100000});
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  const Tensor rows = compare_rows(a, b), apart = drift(x, y);
  at::set_num_threads(2);
  EXPECT_TRUE(at::equal(compare_rows(a, b), rows));
  EXPECT_TRUE(at::equal(drift(x, y), apart));
  at::set_num_threads(threads);
}

TEST(ReconstructionTest, RefusesWhatDoesNotFit) {
  const Tensor a = sums(4), x = torch::zeros({4});
  EXPECT_THROW_WITH(compare_rows(a, sums(5)), "two int64 [N] on one device");
  EXPECT_THROW_WITH(compare_rows(a, x), "two int64 [N] on one device");
  EXPECT_THROW_WITH(compare_rows(a, a, sums(9)), "the record must be contiguous Long [10]");
  EXPECT_THROW_WITH(read_row_record(x), "the record must be contiguous Long [10]");
  EXPECT_THROW_WITH(drift(x, torch::zeros({5})), "two states of one shape, float32 or float64");
  EXPECT_THROW_WITH(drift(x, x.to(at::kDouble)), "two states of one shape, float32 or float64");
  EXPECT_THROW_WITH(drift(a, a), "float32 or float64");
  EXPECT_THROW_WITH(drift(x, x, torch::zeros({2}, at::kDouble)), "must be contiguous Float [2]");
  EXPECT_THROW_WITH(read_drift(a), "expected a record of drift");
}

}  // namespace
}  // namespace rev::kernels
