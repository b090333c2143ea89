// config.json of a run: Hugging Face's keys of the model, and under "rev" every setting of the run
// by its option's name.
#pragma once

#include <filesystem>
#include <map>
#include <set>
#include <string>

#include "rev/models/hf_config.h"

namespace rev::train {

/// Settings by name. In a JSON object a name with points is that of an object in it, and so on:
/// "rope_scaling.factor" is {"rope_scaling": {"factor": ...}}.
using Settings = models::HfKeys;

/// One setting as a person would write it.
std::string to_text(const models::HfValue& value);

/// All settings for a person, in lines of at most 100 letters.
std::string list_settings(const Settings& settings);

/// Settings as a JSON object, and back. Throws c10::Error naming `where` for text that is not one.
std::string to_json(const Settings& settings);
Settings from_json(const std::string& text, const std::string& where);

struct ConfigFile {
  Settings model;  ///< Hugging Face's keys
  Settings run;    ///< empty where another program wrote the file
};

/// Writes a config durably and atomically. Throws c10::Error where it cannot.
void write_config(const std::filesystem::path& path, const ConfigFile& config);

/// Throws c10::Error naming path where it is missing or not a JSON object. Lists of anything but
/// strings or whole numbers are passed over.
ConfigFile read_config(const std::filesystem::path& path);

/// Throws c10::Error with one sentence that begins with `where` and names every setting whose value
/// `now` is not the one `saved`; those in `free` may differ.
void check_same_settings(const Settings& saved, const Settings& now,
                         const std::set<std::string>& free, const std::string& where);

}  // namespace rev::train
