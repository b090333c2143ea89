// RevFFN's attention update (arXiv 2512.20920): two streams of half the width, queries from the one
// that is updated, keys and values from the other,
//
//   Y1 - X1 = P_down Attn(Q: N(P_up X1), K, V: N(P_up X2)).
//
// Given X2 this is a map on each token of X1 alone, which is iterated to undo the step. It
// converges where the map is a contraction: `contracting_std` says how small P_down must start.
#pragma once

#include <ATen/core/Tensor.h>
#include <cstdint>
#include <functional>

#include "rev/nn/attention.h"
#include "rev/nn/linear.h"
#include "rev/nn/norm.h"

namespace rev::nn {

/// The standard deviation of P_down's weights at which the map starts as a contraction.
///
/// With weights ~ N(0, std^2) the spectral norm of an m x n matrix is about std (sqrt m + sqrt n).
/// So, for inputs of root mean square `rms`, the Jacobian is at most the product of
///   N(P_up .)         (1 + sqrt 2) / rms          the norm takes P_up's scale out again
///   queries           2 std sqrt C
///   softmax, values   std^2 C sqrt(D) / 2         two equally seen tokens, the steepest case
///   c_proj            2 std sqrt(C) / sqrt(2 L)   scaled as all residual projections
///   P_down            (1 + 1/sqrt 2) sqrt(C) result
/// and the result makes that `contraction`, but is at most std / sqrt(2 L). The bound is a safe
/// one: the steepest token measured 0.012 at 768 channels and 12 heads, for 0.25 asked.
double contracting_std(int64_t channels, int64_t heads, int64_t layers, double std, double rms,
                       double contraction = 0.25);

/// The update's increment, from modules that are registered elsewhere (P_up, P_down and the norm
/// may be shared with other parts of the layer).
class CrossAttention {
 public:
  /// p_up [C/2,C], norm over C, attention over C, p_down [C,C/2].
  CrossAttention(Linear p_up, LayerNorm norm, Attention attention, Linear p_down);

  /// P_down Attn(Q: N(P_up x1), K, V: N(P_up x2)), [B,T,C/2] twice -> [B,T,C/2].
  ///
  /// The last product and the result are in the parameters' dtype, whatever autocast says: its
  /// rounding must be finer than the cells that low bits can tell apart, see schemes/revffn.h.
  /// With dropout two masks are drawn, of the attention weights [B,H,T,T], then of Attn's result
  /// [B,T,C]. need_value: where false the last product is left out, see `affine`.
  at::Tensor forward(const at::Tensor& x1, const at::Tensor& x2, bool need_value = true) const;

  /// `forward` for a fixed x2, on single tokens: x [N,C/2] and their places index [N] in the
  /// flattened [B*T] -> [N,C/2]. Records no graph.
  ///
  /// Keys, values and masks are made once, here; the masks are those that `forward` would draw from
  /// the same generator state. Products have other shapes than `forward`'s, so that values are
  /// close to its, not the same bits.
  std::function<at::Tensor(const at::Tensor& x, const at::Tensor& index)> token_map(
      const at::Tensor& x2) const;

 private:
  at::Tensor normed(const at::Tensor& x) const;
  at::Tensor lowered(const at::Tensor& attention, bool need_value) const;

  mutable Linear p_up_;
  mutable LayerNorm norm_;
  mutable Attention attention_;
  mutable Linear p_down_;
};

}  // namespace rev::nn
