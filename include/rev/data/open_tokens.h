#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <vector>

#include "rev/data/token_source.h"
#include "rev/data/tokenizer.h"

namespace rev::data {

/// Opens texts or token shards, in the order given, as one sequence.
///
/// - A text is a UTF-8 file; its bytes are the tokens, V is 256. Where another text follows and it
///   does not end in a newline, one is added: the only mark between documents.
/// - With a tokenizer a text is what that makes of it, special tokens that are spelled out in it as
///   ordinary text, and `Tokenizer::between_texts` is the mark. V is the tokenizer's, tokens lie in
///   memory, in 16 bits each or, where V is above 65536, in 32.
/// - A folder is searched through for texts, in the byte order of their paths. Empty files and
///   dot-names are passed over; files that are not text (not UTF-8, NUL bytes, `.bin`) are skipped
///   and counted.
/// - A shard is a file of uint16 tokens, little endian. That of llm.c has a 1024-byte header, known
///   by its magic number; else the ending `.bin` says that it is nanoGPT's, without a header. V is
///   the tokenizer's, 50257 without one. Texts and shards do not mix.
///
/// vocab: V, where it is another one: at least 256 for bytes, at least the tokenizer's. Every byte
/// is read once to check it (texts for UTF-8, shards for tokens >= V). Without a tokenizer files of
/// 1 MiB and more stay memory-mapped, smaller texts are held in memory.
///
/// Throws c10::Error with one sentence naming the file, where it applies the byte offset, and the
/// reason: missing, empty or truncated file, a named file that is not text, 32-bit tokens, a token
/// outside of the vocabulary, nothing to read at all.
TokenSource open_tokens(const std::vector<std::filesystem::path>& paths,
                        std::optional<std::int64_t> vocab = std::nullopt,
                        const Tokenizer* tokenizer = nullptr);

}  // namespace rev::data
