#pragma once

#include <string>

#include "rev/data/token_source.h"
#include "rev/data/tokenizer.h"

namespace rev::train {

/// "N tokens, <checksum>": the number of tokens and an XXH64 of 1024 stretches of 1024 tokens,
/// spread evenly and reaching both ends; of all tokens where there are no more. What a resumed run
/// knows its data by, wherever the files lie; read in milliseconds, whatever N.
std::string fingerprint(const data::TokenSource& tokens);

/// "V tokens, <digest>": what a run knows its tokenizer by, wherever its file lies.
std::string fingerprint(const data::Tokenizer& tokenizer);

}  // namespace rev::train
