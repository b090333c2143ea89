#include "rev/data/open_tokenizer.h"

#include <algorithm>
#include <array>
#include <c10/util/Exception.h>
#include <charconv>
#include <string_view>
#include <system_error>
#include <utility>

#include "data/readers.h"
#include "data/tokenizer_spec.h"
#include "rev/base/mapped_file.h"

namespace rev::data {
namespace {

namespace fs = std::filesystem;

enum class Format { Json, Merges, SentencePiece, Tiktoken, Gguf, Unknown };

bool is_file(const fs::path& path) {
  std::error_code ignored;
  return fs::is_regular_file(path, ignored);
}

bool is_base64(char c) {
  return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '+' ||
         c == '/' || c == '=';
}

/// Whether text begins with a line of base64, a space and a number.
bool looks_like_tiktoken(std::string_view text) {
  const std::string_view line = text.substr(0, std::min<std::size_t>(text.find('\n'), 4096));
  const std::size_t space = line.find(' ');
  if (space == 0 || space == std::string_view::npos || space % 4 != 0) return false;
  const std::string_view digits = line.substr(space + 1, line.find('\r') - space - 1);
  return std::all_of(line.begin(), line.begin() + static_cast<std::ptrdiff_t>(space), is_base64) &&
         !digits.empty() &&
         std::all_of(digits.begin(), digits.end(), [](char c) { return c >= '0' && c <= '9'; });
}

/// Whether the first line is a version, or a pair of pieces.
bool looks_like_merges(std::string_view text) {
  if (text.substr(0, 9) == "#version:") return true;
  const std::string_view line = text.substr(0, std::min<std::size_t>(text.find('\n'), 4096));
  const std::size_t space = line.find(' ');
  return space != 0 && space != std::string_view::npos && space + 1 < line.size() &&
         line.find(' ', space + 1) == std::string_view::npos;
}

Format find_format(const fs::path& path) {
  const base::MappedFile file(path);
  const std::string_view text = file.text();
  TORCH_CHECK(!text.empty(), path.string(), ": empty file");
  if (text.substr(0, 4) == "GGUF") return Format::Gguf;
  const std::size_t begin = text.find_first_not_of(" \t\r\n");
  if (begin != std::string_view::npos && text[begin] == '{') return Format::Json;
  if (text[0] == '\n') return Format::SentencePiece;  // the tag of a piece
  if (looks_like_tiktoken(text)) return Format::Tiktoken;
  if (looks_like_merges(text)) return Format::Merges;
  return Format::Unknown;
}

/// The first of some files that a folder has; an empty path where it has none.
template <std::size_t N>
fs::path find_beside(const fs::path& folder, const std::array<const char*, N>& names) {
  for (const char* name : names) {
    if (is_file(folder / name)) return folder / name;
  }
  return {};
}

constexpr std::array kVocabNames = {"vocab.json", "encoder.json"};
constexpr std::array kMergesNames = {"merges.txt", "vocab.bpe"};

fs::path find_tokenizer(const fs::path& folder) {
  const fs::path named = find_beside(
      folder, std::array{"tokenizer.json", "vocab.json", "encoder.json", "tokenizer.model"});
  if (!named.empty()) return named;
  std::vector<fs::path> ranks;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end;
       entry.increment(error)) {
    if (entry->path().extension() == ".tiktoken") ranks.push_back(entry->path());
  }
  TORCH_CHECK(!error, folder.string(), ": cannot be searched: ", error.message());
  TORCH_CHECK(ranks.size() <= 1, folder.string(), ": holds several .tiktoken files; name one");
  TORCH_CHECK(!ranks.empty(), folder.string(),
              ": holds no tokenizer: neither tokenizer.json, vocab.json with merges.txt, "
              "encoder.json with vocab.bpe, tokenizer.model nor a .tiktoken file");
  return ranks[0];
}

TokenizerSpec read_any_json(const fs::path& path, const std::string& words) {
  const nlohmann::json json = io::read_json(path);
  // A vocabulary may have any piece, but that of a model is a token and no object.
  const auto model = json.find("model");
  if (model != json.end() && model->is_object()) return read_tokenizer_json(json, path);
  const fs::path merges = find_beside(path.parent_path(), kMergesNames);
  TORCH_CHECK(!merges.empty(), path.string(),
              ": holds a vocabulary, but neither merges.txt nor vocab.bpe is beside it");
  return read_vocab_and_merges(json, path, merges, words);
}

TokenizerSpec read_merges(const fs::path& path, const std::string& words) {
  const fs::path vocab = find_beside(path.parent_path(), kVocabNames);
  TORCH_CHECK(!vocab.empty(), path.string(),
              ": holds merges, but neither vocab.json nor encoder.json is beside it");
  return read_vocab_and_merges(io::read_json(vocab), vocab, path, words);
}

TokenizerSpec read_spec(const fs::path& path, const std::string& words) {
  const fs::path folder = path.parent_path();
  const fs::path config = folder / "tokenizer_config.json";
  std::string model = words;
  if (model.empty() && is_file(config)) {
    const nlohmann::json json = io::read_json(config);
    const std::string kind = JsonObject(json, config.string()).text("tokenizer_class", "");
    if (kind.rfind("Qwen2Tokenizer", 0) == 0) model = "qwen2";
  }
  const std::string pair_model = model.empty() ? "gpt2" : model;
  switch (find_format(path)) {
    case Format::Json:
      return read_any_json(path, pair_model);
    case Format::Merges:
      return read_merges(path, pair_model);
    case Format::SentencePiece:
      return read_sentencepiece(path);
    case Format::Tiktoken:
      return read_tiktoken(path, words);
    case Format::Gguf:
      return read_gguf(path);
    case Format::Unknown:
      break;
  }
  TORCH_CHECK(false, path.string(),
              ": not a tokenizer: neither tokenizer.json, vocab.json, merges.txt, a SentencePiece "
              "model, a .tiktoken nor a GGUF file");
}

/// A token that tokenizer_config.json names, as text or as an object with its content.
std::optional<std::int64_t> find_token(const JsonObject& config, const char* key,
                                       const TokenizerSpec& spec) {
  if (!config.has(key)) return std::nullopt;
  const nlohmann::json& value = config.member(key);
  const std::string text =
      value.is_object() ? config.object(key).text("content") : config.text(key);
  if (text.empty()) return std::nullopt;
  const auto found = std::find(spec.pieces.begin(), spec.pieces.end(), text);
  TORCH_CHECK(found != spec.pieces.end(), config.where(), ": ", key, " is ", io::quoted(text),
              ", which is no token of ", spec.name);
  return found - spec.pieces.begin();
}

/// What GPT-2's own files hold and do not call the end of a text.
std::optional<std::int64_t> find_end_of_text(const TokenizerSpec& spec) {
  for (const AddedToken& token : spec.added) {
    if (token.special && token.text == "<|endoftext|>") return token.id;
  }
  return std::nullopt;
}

/// The tokens that were added to a model, by their numbers as text.
void read_added_tokens(const JsonObject& config, TokenizerSpec& spec) {
  constexpr const char* kKey = "added_tokens_decoder";
  if (!config.has(kKey)) return;
  const JsonObject tokens = config.object(kKey);
  for (const auto& [text, token] : config.member(kKey).items()) {
    std::int64_t id = -1;
    const char* end = text.data() + text.size();
    const auto read = std::from_chars(text.data(), end, id);
    TORCH_CHECK(read.ec == std::errc() && read.ptr == end, tokens.where(), ": the token ",
                io::quoted(text), " is not a whole number");
    const bool is_known = std::any_of(spec.added.begin(), spec.added.end(),
                                      [&](const AddedToken& added) { return added.id == id; });
    if (!is_known) read_added_token({token, tokens.where() + ": token " + text}, id, spec);
  }
}

/// Added tokens, bos, eos and the chat template, of tokenizer_config.json beside a file, where
/// there is one.
void read_tokenizer_config(const fs::path& folder, TokenizerSpec& spec) {
  const fs::path path = folder / "tokenizer_config.json";
  if (!is_file(path)) return;
  const nlohmann::json json = io::read_json(path);
  const JsonObject config(json, path.string());
  read_added_tokens(config, spec);
  if (const auto bos = find_token(config, "bos_token", spec)) spec.bos = bos;
  if (const auto eos = find_token(config, "eos_token", spec)) spec.eos = eos;
  // A list holds one template for each of several uses.
  if (config.has("chat_template") && config.member("chat_template").is_string()) {
    spec.chat_template = config.text("chat_template");
  }
}

}  // namespace

TokenizerPtr open_tokenizer(const fs::path& path, const std::string& words) {
  std::error_code ignored;
  TORCH_CHECK(fs::exists(path, ignored), path.string(), ": no such file or folder");
  const fs::path file = fs::is_directory(path, ignored) ? find_tokenizer(path) : path;
  TokenizerSpec spec = read_spec(file, words);
  read_tokenizer_config(file.parent_path(), spec);
  if (!spec.eos) spec.eos = find_end_of_text(spec);
  return make_tokenizer(std::move(spec));
}

}  // namespace rev::data
