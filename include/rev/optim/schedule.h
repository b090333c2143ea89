#pragma once

#include <cstdint>

namespace rev::optim {

/// A learning rate that rises linearly and falls along half a cosine.
struct Schedule {
  double lr = 6e-4;        ///< the highest
  double min_lr = 6e-5;    ///< from `steps` on
  int64_t warmup = 2000;   ///< steps of the rise
  int64_t steps = 600000;  ///< of the whole, warm-up included

  /// The rate of a step, counted from 0, a pure function of it: lr (step + 1) / warmup while step <
  /// warmup, then min_lr + (lr - min_lr) (1 + cos(pi s)) / 2 with s from 0 at `warmup` to 1 at
  /// `steps`, then min_lr.
  double operator()(int64_t step) const;
};

}  // namespace rev::optim
