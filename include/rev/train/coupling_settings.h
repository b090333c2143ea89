// A coupling as settings of a `config.json`, under the names of rev-gpt2's options.
#pragma once

#include <string>

#include "rev/models/coupling.h"
#include "rev/train/config_file.h"

namespace rev::train {

Settings coupling_settings(const models::Coupling& coupling);

/// Other settings are passed over. Throws c10::Error with one sentence that begins with `where` for
/// one that is missing, of another type or of no meaning.
models::Coupling coupling_from(const Settings& settings, const std::string& where);

}  // namespace rev::train
