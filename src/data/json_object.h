#pragma once

#include <c10/util/Exception.h>
#include <string>
#include <utility>

#include "io/json.h"

namespace rev::data {

/// Members of a JSON object that outlives it; what a member is not is refused in one sentence.
class JsonObject {
 public:
  using Json = nlohmann::json;

  /// where: the file, and the place in it.
  JsonObject(const Json& json, std::string where) : json_(json), where_(std::move(where)) {
    TORCH_CHECK(json_.is_object(), where_, ": expected a JSON object, got ", json_.type_name());
  }

  const std::string& where() const { return where_; }

  /// Whether the member is there and not null.
  bool has(const char* key) const {
    const auto found = json_.find(key);
    return found != json_.end() && !found->is_null();
  }
  const Json& member(const char* key) const {
    TORCH_CHECK(has(key), where_, ": has no ", key);
    return *json_.find(key);
  }
  const Json& list(const char* key) const {
    const Json& value = member(key);
    TORCH_CHECK(value.is_array(), where_, ": ", key, " is not a list");
    return value;
  }
  JsonObject object(const char* key) const { return {member(key), where_ + ": " + key}; }

  /// As `io::get_json` reads it.
  template <class T>
  T get(const char* key) const {
    return io::get_json<T>(json_, key, where_);
  }
  template <class T>
  T get(const char* key, const T& otherwise) const {
    return has(key) ? get<T>(key) : otherwise;
  }
  std::string text(const char* key) const { return get<std::string>(key); }
  std::string text(const char* key, const std::string& otherwise) const {
    return get<std::string>(key, otherwise);
  }
  bool flag(const char* key, bool otherwise) const { return get<bool>(key, otherwise); }

 private:
  const Json& json_;
  std::string where_;
};

}  // namespace rev::data
