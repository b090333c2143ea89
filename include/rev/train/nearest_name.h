#pragma once

#include <string>
#include <vector>

namespace rev::train {

/// The one of `known` that differs from `name` by the fewest letters added, left out, replaced or
/// exchanged with their neighbour (optimal string alignment); of equals the first. Empty where even
/// that one differs by more than a third of the longer name's letters: it was not meant.
std::string nearest_name(const std::string& name, const std::vector<std::string>& known);

}  // namespace rev::train
