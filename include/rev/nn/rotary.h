// Rotary positions (Su et al., arXiv 2104.09864): the elements i and i + D/2 of a query or a key
// are the coordinates of a point in a plane, which the position t turns by the angle t w_i,
//
//   w_i = theta^(-2 i / D)
//
// so that products of queries and keys depend on the distance between their positions alone.
#pragma once

#include <ATen/core/Tensor.h>
#include <cstdint>
#include <string>

namespace rev::nn {

struct RotaryOptions {
  int64_t width = 0;  ///< D, even
  double theta = 10000;

  /// How frequencies are changed for longer texts than a model was made for:
  ///   default   they are not
  ///   linear    w / factor
  ///   llama3    w (s + (1 - s) / factor), where s goes from 0 to 1 as a text of original_seq
  ///   tokens
  ///             goes from low_freq_factor to high_freq_factor turns
  std::string scaling = "default";
  double factor = 1;
  double low_freq_factor = 1;
  double high_freq_factor = 4;
  int64_t original_seq = 8192;
};

/// Throws c10::Error naming an option that has no meaning, or an unknown scaling.
void check(const RotaryOptions& options);

/// w, float32 [D/2], computed in float32. Throws as `check`.
at::Tensor rotary_frequencies(const RotaryOptions& options);

/// Queries or keys at the positions first, first + 1, ...: x [B,H,T,D], frequencies [D/2] -> the
/// turned points, contiguous, in x's dtype.
///
/// Angles, sines and products are computed in float32 (float64 for float64 x) and rounded once. A
/// graph keeps the sines and cosines [T,D/2] alone.
at::Tensor rotate(const at::Tensor& x, const at::Tensor& frequencies, int64_t first = 0);

}  // namespace rev::nn
