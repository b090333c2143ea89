// How a model's layers are coupled and kept: what every model here has beside its sizes.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "rev/engine/stack.h"
#include "rev/schemes/scheme.h"

namespace rev::models {

struct Coupling {
  /// residual, midpoint, midpoint-a, leapfrog, hamiltonian, revffn or retrofit (`scheme_names`).
  std::string scheme = "midpoint";
  double h = 0.5;       ///< step of midpoint, midpoint-a and leapfrog
  uint64_t a_seed = 0;  ///< midpoint-a: seed of the weights
  /// midpoint-a: weights are drawn in pairs of reciprocals, see `schemes::MidpointA::draw_pairs`.
  bool a_pairs = false;
  /// midpoint-a: one weight for each layer, drawn where empty; hamiltonian: one, 1 where empty;
  /// retrofit: one for each layer or for all, -1/8 where empty.
  std::vector<double> a;
  int64_t inner = 0;     ///< retrofit: see `engine::RetrofitOptions`
  int64_t low_bits = 0;  ///< revffn: see `schemes::RevFFNOptions`

  /// How states are held: the grid of 2^-16 (float32 for residual) unless given.
  std::optional<schemes::StateOptions> state;
  /// Of every layer, see `engine::Stack::set_memory`: inverted (stored for residual) unless given.
  std::optional<engine::Memory> memory;
};

/// What `Coupling::scheme` may be.
const std::vector<std::string>& scheme_names();

/// The scheme of n_layers that the coupling names; retrofit is midpoint-a with the options that
/// make it near to a residual model of the same layers (`engine::retrofit`). Throws c10::Error for
/// an unknown name, or options that do not fit.
std::shared_ptr<const schemes::Scheme> make_scheme(const Coupling& coupling, int64_t n_layers);

/// The layers coupled so. coupling.memory is filled in. Throws c10::Error as `make_scheme` and
/// `engine::Stack`.
engine::Stack make_stack(Coupling& coupling, std::vector<std::vector<engine::FieldPtr>> layers);

}  // namespace rev::models
