#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <variant>
#include <vector>

namespace rev::models {

/// A value of Hugging Face's `config.json` (null, or one of these).
using HfValue = std::variant<std::monostate, bool, int64_t, double, std::string,
                             std::vector<std::string>, std::vector<int64_t>>;

/// The keys of a `config.json`. Those of an object inside it stand behind its own, with a point
/// between them: "rope_scaling.factor".
using HfKeys = std::map<std::string, HfValue>;

}  // namespace rev::models
