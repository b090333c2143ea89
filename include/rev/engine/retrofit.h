#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "rev/engine/field.h"
#include "rev/schemes/midpoint_a.h"

namespace rev::engine {

struct RetrofitOptions {
  /// Weights a: one for each layer, or one for all; see `schemes::MidpointA` for what they may be.
  /// The smaller |a|, the nearer to the original; |a| = 2^-s takes s bits an element and layer to
  /// invert.
  std::vector<double> a;

  int64_t inner = 0;  ///< iterations towards p^(l-1); 0: the form that needs none
};

/// The scheme under which `retrofit` puts n_layers: its steps h are 1, or 1 + a where inner is 0.
/// Throws as `retrofit`.
std::shared_ptr<const schemes::MidpointA> retrofit_scheme(const RetrofitOptions& options,
                                                          int64_t n_layers);

/// Layers under midpoint(a): what a `Stack` is made of.
struct Retrofit {
  std::shared_ptr<const schemes::MidpointA> scheme;
  std::vector<FieldPtr> fields;
};

/// The layers of a residual network, x^(l+1) = x^(l) + f_l(x^(l)), as a midpoint(a) stack that can
/// be inverted and is near to it (arXiv 2512.02056, eq 30), layer 0 as it was:
///
///   p^(1)   = p^(0) + f_0(p^(0))
///   p^(l+1) = a_l p^(l-1) + (1 - a_l) p^(l) + f_l(p^(l)) + a_l f_{l-1}(p~),    p~ near p^(l-1)
///
/// Were p~ = p^(l-1), it would be the original, whatever a. Inverting must find p~ from p^(l)
/// alone: by `inner` iterations p~ <- p^(l) - f_{l-1}(p~) from p~ = p^(l) (eq 32; one of them is eq
/// 30), 2 + inner evaluations a layer, in which f_{l-1} is read by layers l - 1 and l. With inner =
/// 0 the last term is a_l f_l(p^(l)), our own: one evaluation, and nearby where neighbouring layers
/// do alike.
///
/// Throws c10::Error where there is no layer, inner is negative, or weights do not fit; for inner =
/// 0 that of -1 does not, with which a layer would do nothing.
Retrofit retrofit(const std::vector<FieldPtr>& fields, const RetrofitOptions& options);

}  // namespace rev::engine
