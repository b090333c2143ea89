#include "rev/train/config_file.h"

#include <algorithm>
#include <c10/util/Exception.h>
#include <nlohmann/json.hpp>
#include <optional>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "io/json.h"
#include "rev/io/file.h"

namespace rev::train {
namespace {

using models::HfValue;
using nlohmann::json;

const char* const kRun = "rev";

json to_json_value(const HfValue& value) {
  return std::visit(
      [](const auto& v) {
        if constexpr (std::is_same_v<std::decay_t<decltype(v)>, std::monostate>) {
          return json(nullptr);
        } else {
          return json(v);
        }
      },
      value);
}

std::optional<HfValue> from_json_value(const json& value) {
  if (value.is_null()) return std::monostate();
  if (value.is_boolean()) return value.get<bool>();
  if (value.is_number_integer()) return value.get<int64_t>();
  if (value.is_number()) return value.get<double>();
  if (value.is_string()) return value.get<std::string>();
  if (!value.is_array()) return std::nullopt;
  const auto all = [&](bool (json::*is)() const noexcept) {
    return std::all_of(value.begin(), value.end(), [&](const json& v) { return (v.*is)(); });
  };
  if (all(&json::is_string)) return value.get<std::vector<std::string>>();
  if (all(&json::is_number_integer)) return value.get<std::vector<int64_t>>();
  return std::nullopt;
}

json to_object(const Settings& settings) {
  json object = json::object();
  for (const auto& [name, value] : settings) {
    json* inner = &object;
    size_t begin = 0;
    for (size_t end; (end = name.find('.', begin)) != std::string::npos; begin = end + 1) {
      inner = &(*inner)[name.substr(begin, end - begin)];
    }
    (*inner)[name.substr(begin)] = to_json_value(value);
  }
  return object;
}

void add_object(Settings& settings, const std::string& prefix, const json& object) {
  for (const auto& [name, value] : object.items()) {
    if (value.is_object()) {
      add_object(settings, prefix + name + ".", value);
    } else if (auto known = from_json_value(value)) {
      settings[prefix + name] = std::move(*known);
    }
  }
}

Settings from_object(const json& object) {
  Settings settings;
  add_object(settings, "", object);
  return settings;
}

}  // namespace

std::string to_text(const HfValue& value) {
  if (const auto* text = std::get_if<std::string>(&value)) return *text;
  if (const auto* list = std::get_if<std::vector<std::string>>(&value)) {
    std::string text;
    for (const std::string& element : *list) text += (text.empty() ? "" : " ") + element;
    return text;
  }
  return to_json_value(value).dump();
}

std::string list_settings(const Settings& settings) {
  constexpr size_t kWidth = 100;
  std::string text, line = "settings:";
  for (const auto& [name, value] : settings) {
    const std::string item = " " + name + " " + to_text(value) + ";";
    if (line.size() + item.size() > kWidth) {
      text += line + "\n";
      line.assign(1, ' ');
    }
    line += item;
  }
  line.back() = '.';
  return text + line;
}

std::string to_json(const Settings& settings) { return to_object(settings).dump(2) + "\n"; }

Settings from_json(const std::string& text, const std::string& where) {
  return from_object(io::parse_json(text, where));
}

void write_config(const std::filesystem::path& path, const ConfigFile& config) {
  json object = to_object(config.model);
  object[kRun] = to_object(config.run);
  io::write_file_atomically(path, object.dump(2) + "\n");
}

ConfigFile read_config(const std::filesystem::path& path) {
  json object = io::read_json(path);
  ConfigFile config;
  if (object.contains(kRun)) {
    config.run = from_object(io::get_json<json::object_t>(object, kRun, path.string()));
    object.erase(kRun);
  }
  config.model = from_object(object);
  return config;
}

void check_same_settings(const Settings& saved, const Settings& now,
                         const std::set<std::string>& free, const std::string& where) {
  std::string differing;
  for (const auto& [name, value] : now) {
    const auto before = saved.find(name);
    if (free.count(name) != 0 || (before != saved.end() && before->second == value)) continue;
    differing += c10::str(differing.empty() ? "" : ", ", name, " was ",
                          before == saved.end() ? "not there" : to_text(before->second),
                          " and is now ", to_text(value));
  }
  TORCH_CHECK(differing.empty(), where, ": saved by a run with other settings: ", differing);
}

}  // namespace rev::train
