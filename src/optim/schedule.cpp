#include "rev/optim/schedule.h"

#include <cmath>

namespace rev::optim {

double Schedule::operator()(int64_t step) const {
  if (step < warmup) return lr * static_cast<double>(step + 1) / static_cast<double>(warmup);
  if (step >= steps) return min_lr;
  const double s = static_cast<double>(step - warmup) / static_cast<double>(steps - warmup);
  return min_lr + (lr - min_lr) * (1 + std::cos(M_PI * s)) / 2;
}

}  // namespace rev::optim
