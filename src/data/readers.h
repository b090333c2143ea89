// What the readers of tokenizers' files share: each makes a spec of one kind of file.
#pragma once

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <utility>

#include "data/json_object.h"
#include "data/tokenizer_spec.h"

namespace rev::data {

/// A token out of JSON. Throws c10::Error, naming `what` of the spec, unless it is in
/// [0, kMaxVocab).
std::int64_t read_token(const nlohmann::json& id, const std::string& what);

/// Puts a piece at its place. Throws c10::Error for a token outside of [0, kMaxVocab), or one that
/// has another piece.
void add_piece(TokenizerSpec& spec, std::int64_t id, std::string piece);

/// Every piece of a JSON object of pieces and their tokens.
void add_pieces(TokenizerSpec& spec, const nlohmann::json& vocab, const std::string& where);

/// Looks for a piece in texts.
inline void add_token(TokenizerSpec& spec, std::size_t id, bool special = true) {
  spec.added.push_back({spec.pieces[id], static_cast<std::int64_t>(id), special});
}

/// A token of JSON's "added_tokens": its content and how it is looked for.
void read_added_token(const JsonObject& token, std::int64_t id, TokenizerSpec& spec);

/// What every SentencePiece model has, once pieces, types and rules are there.
void finish_sentencepiece(TokenizerSpec& spec);

/// "left right" as the next pair of pieces to join. Throws c10::Error where it is none.
void add_merge(TokenizerSpec& spec, std::string_view merge);

/// The bytes of base64. Throws c10::Error, naming `where` it stands, for what is none.
std::string decode_base64(std::string_view text, const std::string& where);

/// Calls visit(line, number from 1) for every line, without its end.
template <class Visit>
void visit_lines(std::string_view text, const Visit& visit) {
  for (std::size_t number = 1; !text.empty(); ++number) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    visit(line, number);
  }
}

// json: what the file `path` holds.
TokenizerSpec read_tokenizer_json(const nlohmann::json& json, const std::filesystem::path& path);
TokenizerSpec read_vocab_and_merges(const nlohmann::json& json, const std::filesystem::path& path,
                                    const std::filesystem::path& merges, const std::string& model);
TokenizerSpec read_sentencepiece(const std::filesystem::path& path);
TokenizerSpec read_tiktoken(const std::filesystem::path& path, const std::string& model);
TokenizerSpec read_gguf(const std::filesystem::path& path);

}  // namespace rev::data
