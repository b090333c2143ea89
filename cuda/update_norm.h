// Launchers of updates of a state that take the norm of the new state in the same pass
// (update_norm.cu): what grid.h's launchers do to y, then launch_decode and norm.h's launch_norm of
// it, in the same bits, for the traffic of the update and of what is written. Undone by the same
// launch with the other sign of the factors. Pointers, streams and failures as in grid.h.
#pragma once

#include <cstdint>

#include "cuda/grid.h"
#include "cuda/norm.h"
#include "cuda/stream.h"

namespace rev::cuda {

/// What is made of the new state.
struct StateNorm {
  float unit;       ///< of a cell
  Floats value;     ///< [rows, width], the state as numbers
  Norm norm;        ///< of the state as float32
  Floats y;         ///< [rows, width], the norm
  Moments moments;  ///< of the norm
};

/// y += rint(f scale). F: float or BFloat16.
template <class F>
void launch_update_norm(int32_t* y, const F* f, float scale, const StateNorm& made, Rows size,
                        const Probe& probe, Stream stream);

/// y <- 2 x - y + rint(f scale). F: float or BFloat16.
template <class F>
void launch_reflect_norm(int32_t* y, const int32_t* x, const F* f, float scale,
                         const StateNorm& made, Rows size, const Probe& probe, Stream stream);

/// y += rint(b x + f scale). F: float or BFloat16.
template <class F>
void launch_blend_norm(int32_t* y, const int32_t* x, float b, const F* f, float scale,
                       const StateNorm& made, Rows size, const Probe& probe, Stream stream);

}  // namespace rev::cuda
