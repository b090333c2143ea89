#pragma once

#include <string>
#include <vector>

namespace rev::train {

/// The one of `known` (not empty) that differs from `name` by the fewest letters added, left out,
/// replaced or exchanged with their neighbour (optimal string alignment); of equals the first.
std::string nearest_name(const std::string& name, const std::vector<std::string>& known);

}  // namespace rev::train
