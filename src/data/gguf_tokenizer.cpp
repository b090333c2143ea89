// The tokenizer in a GGUF file: what its metadata says under `tokenizer.`. What files leave unsaid
// follows from the model, as in llama.cpp.
#include <c10/util/Exception.h>
#include <string>
#include <vector>

#include "data/readers.h"
#include "io/json.h"
#include "rev/io/gguf.h"

namespace rev::data {
namespace {

const std::string kGgml = "tokenizer.ggml.";

struct KnownWords {
  const char* pre;
  const char* model;  // for set_words
};
constexpr KnownWords kKnown[] = {
    {"gpt-2", "gpt2"},    {"gpt2", "gpt2"},       {"smollm", "smollm"}, {"llama-bpe", "llama3"},
    {"llama3", "llama3"}, {"llama-v3", "llama3"}, {"qwen2", "qwen2"}};

std::string find_words(const io::GgufFile& file) {
  const auto pre = file.get<std::string>(kGgml + "pre");
  std::string all;
  for (const KnownWords& known : kKnown) {
    if (pre == known.pre) return known.model;
    all += (all.empty() ? "" : ", ") + std::string(known.pre);
  }
  TORCH_CHECK(false, file.path().string(), ": splits text into words as ", io::quoted(pre),
              " does (tokenizer.ggml.pre), which is not supported; there are ", all);
}

std::vector<PieceType> read_types(const io::GgufFile& file, std::size_t n_pieces) {
  std::vector<PieceType> types(n_pieces, PieceType::Normal);
  const auto numbers = file.find<std::vector<std::int64_t>>(kGgml + "token_type");
  if (!numbers) return types;
  TORCH_CHECK(numbers->size() == n_pieces, file.path().string(), ": there are ", n_pieces,
              " tokens but ", numbers->size(), " types of tokens");
  for (std::size_t i = 0; i < n_pieces; ++i) {
    const std::int64_t type = (*numbers)[i];
    TORCH_CHECK(type >= 1 && type <= 6, file.path().string(), ": token ", i,
                " has the unknown type ", type);
    types[i] = static_cast<PieceType>(type);
  }
  return types;
}

void add_byte_level(const io::GgufFile& file, TokenizerSpec& spec) {
  set_words(spec, find_words(file));
  for (const auto& merge : file.get<std::vector<std::string>>(kGgml + "merges")) {
    add_merge(spec, merge);
  }
  TORCH_CHECK(!spec.merges.empty(), spec.name, ": has no merges (tokenizer.ggml.merges)");
  for (std::size_t i = 0; i < spec.pieces.size(); ++i) {
    const PieceType type = spec.types[i];
    const bool is_added =
        type == PieceType::Control || type == PieceType::UserDefined || type == PieceType::Unknown;
    if (is_added && !spec.pieces[i].empty()) add_token(spec, i, type != PieceType::UserDefined);
  }
}

void add_sentencepiece(const io::GgufFile& file, TokenizerSpec& spec) {
  spec.scores = file.get<std::vector<double>>(kGgml + "scores");
  for (const PieceType type : spec.types) spec.byte_fallback |= type == PieceType::Byte;
  SentencePieceRules& rules = spec.sentencepiece;
  for (const std::int64_t byte :
       file.find<std::vector<std::int64_t>>(kGgml + "precompiled_charsmap")
           .value_or(std::vector<std::int64_t>())) {
    rules.charsmap += static_cast<char>(byte);
  }
  rules.add_dummy_prefix = file.find<bool>(kGgml + "add_space_prefix").value_or(true);
  rules.remove_extra_whitespaces =
      file.find<bool>(kGgml + "remove_extra_whitespaces").value_or(false);
  spec.unknown = file.find<std::int64_t>(kGgml + "unknown_token_id");
  finish_sentencepiece(spec);
}

}  // namespace

TokenizerSpec read_gguf(const std::filesystem::path& path) {
  const io::GgufFile file(path);
  const auto model = file.get<std::string>(kGgml + "model");
  TokenizerSpec spec;
  spec.name = path.string();
  spec.pieces = file.get<std::vector<std::string>>(kGgml + "tokens");
  spec.types = read_types(file, spec.pieces.size());
  if (model == "gpt2") {
    add_byte_level(file, spec);
  } else if (model == "llama" || model == "t5") {
    spec.algorithm =
        model == "t5" ? TokenizerSpec::Algorithm::Unigram : TokenizerSpec::Algorithm::Bpe;
    add_sentencepiece(file, spec);
  } else {
    TORCH_CHECK(false, spec.name, ": the tokenizer model ", io::quoted(model),
                " (tokenizer.ggml.model) is not supported; there are gpt2, llama and t5");
  }
  spec.bos = file.find<std::int64_t>(kGgml + "bos_token_id");
  spec.eos = file.find<std::int64_t>(kGgml + "eos_token_id");
  const bool llama3 = spec.ignore_merges;
  const bool add_bos =
      file.find<bool>(kGgml + "add_bos_token").value_or(model == "llama" || llama3);
  const bool add_eos = file.find<bool>(kGgml + "add_eos_token").value_or(model == "t5");
  if (spec.bos && add_bos) spec.before = {*spec.bos};
  if (spec.eos && add_eos) spec.after = {*spec.eos};
  spec.chat_template = file.find<std::string>("tokenizer.chat_template").value_or("");
  return spec;
}

}  // namespace rev::data
