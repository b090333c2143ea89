#include "io/json.h"

#include <algorithm>
#include <c10/util/Exception.h>
#include <cstdint>
#include <limits>
#include <set>
#include <type_traits>
#include <vector>

#include "rev/base/mapped_file.h"

namespace rev::io {
namespace {

using nlohmann::json;

constexpr std::size_t kLongest = 100;  // letters of a name or value in a message

std::string to_line(const json& value) {
  return value.dump(-1, ' ', false, json::error_handler_t::replace);
}

/// "line 2, column 5" of the byte that the parser counts as the `byte`th.
std::string position_of(std::string_view text, std::size_t byte) {
  const std::string_view before = text.substr(0, byte == 0 ? 0 : byte - 1);
  const auto line = 1 + std::count(before.begin(), before.end(), '\n');
  const std::size_t newline = before.rfind('\n');
  const std::size_t begin = newline == std::string_view::npos ? 0 : newline + 1;
  return c10::str("line ", line, ", column ", before.size() - begin + 1);
}

template <class T>
bool fits(const json& value) {
  if constexpr (std::is_same_v<T, bool>) return value.is_boolean();
  if constexpr (std::is_same_v<T, double>) return value.is_number();
  if constexpr (std::is_same_v<T, std::string>) return value.is_string();
  if constexpr (std::is_same_v<T, json::object_t>) return value.is_object();
  if constexpr (std::is_same_v<T, std::int64_t>) {
    return value.is_number_integer() &&
           (!value.is_number_unsigned() ||
            value.get<std::uint64_t>() <= std::numeric_limits<std::int64_t>::max());
  }
  if constexpr (std::is_same_v<T, std::vector<std::string>>) {
    return value.is_array() && std::all_of(value.begin(), value.end(), fits<std::string>);
  }
}

template <class T>
constexpr const char* kKind = nullptr;
template <>
constexpr const char* kKind<bool> = "true or false";
template <>
constexpr const char* kKind<std::int64_t> = "a whole number below 2^63";
template <>
constexpr const char* kKind<double> = "a number";
template <>
constexpr const char* kKind<std::string> = "a string";
template <>
constexpr const char* kKind<std::vector<std::string>> = "a list of strings";
template <>
constexpr const char* kKind<json::object_t> = "an object";

}  // namespace

std::string quoted(const std::string& name) {
  return to_line(name.size() <= kLongest ? name : name.substr(0, kLongest) + "...");
}

json parse_json(std::string_view text, const std::string& where, int max_depth) {
  std::vector<std::set<std::string>> keys;  // of each open object
  const auto refuse_odd = [&](int depth, json::parse_event_t event, json& value) {
    TORCH_CHECK(depth <= max_depth, where, ": nested deeper than ", max_depth, " levels");
    if (event == json::parse_event_t::object_start) keys.emplace_back();
    if (event == json::parse_event_t::object_end) keys.pop_back();
    if (event == json::parse_event_t::key) {
      const auto& key = value.get_ref<const std::string&>();
      TORCH_CHECK(keys.back().insert(key).second, where, ": names ", quoted(key), " twice");
    }
    return true;
  };
  json object;
  try {
    object = json::parse(text, refuse_odd);
  } catch (const json::parse_error& error) {
    TORCH_CHECK(false, where, ": not JSON at ", position_of(text, error.byte));
  } catch (const json::exception&) {
    TORCH_CHECK(false, where, ": holds a number out of range");
  }
  TORCH_CHECK(object.is_object(), where, ": expected a JSON object");
  return object;
}

json read_json(const std::filesystem::path& path) {
  return parse_json(base::MappedFile(path).text(), path.string());
}

template <class T>
T get_json(const json& object, const std::string& key, const std::string& where) {
  const auto found = object.find(key);
  TORCH_CHECK(found != object.end(), where, ": has no ", quoted(key), ", expected ", kKind<T>);
  if (fits<T>(*found)) return found->template get<T>();
  std::string value = to_line(*found);
  if (value.size() > kLongest) value = value.substr(0, kLongest) + "...";
  TORCH_CHECK(false, where, ": expected ", quoted(key), " to be ", kKind<T>, ", got ", value);
}

template bool get_json(const json&, const std::string&, const std::string&);
template std::int64_t get_json(const json&, const std::string&, const std::string&);
template double get_json(const json&, const std::string&, const std::string&);
template std::string get_json(const json&, const std::string&, const std::string&);
template std::vector<std::string> get_json(const json&, const std::string&, const std::string&);
template json::object_t get_json(const json&, const std::string&, const std::string&);

}  // namespace rev::io
