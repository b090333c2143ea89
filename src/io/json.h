// JSON as files hold it: what is not as expected is refused in one sentence that says where it is.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace rev::io {

/// A name out of a file for a message: quoted, control characters escaped, not longer than a line.
std::string quoted(const std::string& name);

/// The JSON object that `text` is.
///
/// max_depth: of objects and lists inside each other. Throws c10::Error with one sentence that
/// begins with `where`: for text that is not JSON with line and column, for a number out of range,
/// a key that an object has twice, deeper nesting and for JSON that is not an object.
nlohmann::json parse_json(std::string_view text, const std::string& where, int max_depth = 64);

/// The JSON object in a file; throws as `parse_json`, and where the file cannot be read.
nlohmann::json read_json(const std::filesystem::path& path);

/// object[key] as T: bool, std::int64_t, double (of any number), std::string,
/// std::vector<std::string> or nlohmann::json::object_t.
///
/// Throws c10::Error with one sentence of `where`, the key, the kind of value that T stands for and
/// what is there.
template <class T>
T get_json(const nlohmann::json& object, const std::string& key, const std::string& where);

}  // namespace rev::io
