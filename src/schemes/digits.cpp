#include "rev/schemes/digits.h"

#include <cmath>
#include <numeric>

namespace rev::schemes {

kernels::Ratio nearest_ratio(double a) {
  constexpr int64_t kDenominator = 256;
  const double n = std::nearbyint(std::fabs(a) * kDenominator);
  TORCH_CHECK(std::isfinite(a) && n >= 1.0 && n < (1 << 24), "a = ", a,
              " has no inverse on the grid: |a| must be above 1/512 and below 65536");
  const auto whole = static_cast<int64_t>(n);
  const int64_t common = std::gcd(whole, kDenominator);
  return {whole / common, kDenominator / common, a < 0.0};
}

at::ScalarType plan_digits(const std::vector<kernels::Ratio>& ratios, const char* what) {
  __extension__ using Wide = unsigned __int128;
  constexpr Wide k32 = Wide{1} << 32, k64 = Wide{1} << 64;
  Wide bound = 1, widest = 1;
  bool lossless = true;
  for (size_t i = 0; i < ratios.size(); ++i) {
    const auto n = static_cast<Wide>(ratios[i].n), m = static_cast<Wide>(ratios[i].m);
    lossless = lossless && n == 1 && m == 1;
    bound = (bound + n - 1) / n * m;
    TORCH_CHECK(bound <= k64, what, ": the digits of ", ratios.size(),
                " products need more than 64 bits from product ", i,
                " on; choose |a| nearer to 1, or pairs of reciprocals");
    widest = std::max(widest, bound);
  }
  if (lossless) return at::ScalarType::Undefined;
  return widest <= k32 ? at::kInt : at::kLong;
}

}  // namespace rev::schemes
