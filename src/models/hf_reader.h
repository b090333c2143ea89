// Reads the keys of a `config.json`, each refused in one sentence where it is not as expected.
#pragma once

#include <c10/util/Exception.h>
#include <cstdint>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "rev/models/hf_config.h"

namespace rev::models {

class HfReader {
 public:
  /// where: what a message begins with. keys: kept by reference.
  HfReader(std::string where, const HfKeys& keys) : where_(std::move(where)), keys_(keys) {}

  const std::string& where() const { return where_; }

  /// The key's value, null where it is absent.
  HfValue find(const std::string& name) const {
    const auto found = keys_.find(name);
    return found == keys_.end() ? HfValue() : found->second;
  }

  bool has(const std::string& name) const { return find(name) != HfValue(); }

  /// The value of a key that must be there.
  template <class T>
  T get(const std::string& name) const {
    const auto found = keys_.find(name);
    TORCH_CHECK(found != keys_.end(), where_, ": ", name, " is missing");
    const T* value = std::get_if<T>(&found->second);
    TORCH_CHECK(value, where_, ": ", name, " is not of the expected type");
    return *value;
  }

  /// The same, `otherwise` where it is absent or null.
  template <class T>
  T get(const std::string& name, T otherwise) const {
    return has(name) ? get<T>(name) : otherwise;
  }

  /// A number, which JSON may have written without a point.
  double number(const std::string& name) const {
    const HfValue value = find(name);
    if (const auto* whole = std::get_if<int64_t>(&value)) return static_cast<double>(*whole);
    return get<double>(name);
  }

  /// The same, `otherwise` where it is absent or null.
  double number(const std::string& name, double otherwise) const {
    return has(name) ? number(name) : otherwise;
  }

  /// One token or a list of them; none where it is absent or null.
  std::vector<int64_t> ids(const std::string& name) const {
    const HfValue value = find(name);
    if (value == HfValue()) return {};
    if (std::holds_alternative<int64_t>(value)) return {std::get<int64_t>(value)};
    return get<std::vector<int64_t>>(name);
  }

  /// Passes where the key is absent or has one of the values that the model is made for.
  void expect(const std::string& name, const std::vector<HfValue>& accepted) const {
    const auto found = keys_.find(name);
    if (found == keys_.end()) return;
    for (const HfValue& value : accepted) {
      if (found->second == value) return;
    }
    TORCH_CHECK(false, where_, ": ", name, " has a value that this model has no part for");
  }

 private:
  std::string where_;
  const HfKeys& keys_;
};

}  // namespace rev::models
