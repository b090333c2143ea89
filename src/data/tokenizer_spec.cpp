#include "data/tokenizer_spec.h"

#include <algorithm>
#include <c10/util/Exception.h>
#include <utility>

#include "data/readers.h"
#include "io/json.h"
#include "rev/data/utf8.h"

namespace rev::data {
namespace {

// How known models split text into words.
constexpr const char* kLlama3Words =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kQwen2Words =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

SplitStep words_by(const char* pattern) {
  SplitStep step;
  step.pattern = pattern;
  return step;
}

/// How many times as long a text becomes at most where every `from` becomes `to`.
double growth(const std::string& from, const std::string& to) {
  const auto length = [](const std::string& text) { return static_cast<double>(text.size()); };
  return std::max(1.0, length(to) / std::max(1.0, length(from)));
}

/// Steps that double a text and double it again would fill any memory.
void check_steps(const TokenizerSpec& spec) {
  constexpr std::size_t kMaxSteps = 64;
  constexpr double kMaxGrowth = 256;  // several times that of normal forms and space symbols
  for (const std::size_t n : {spec.normalise.size(), spec.split.size(), spec.replace.size()}) {
    TORCH_CHECK(n <= kMaxSteps, spec.name, ": has ", n, " steps one after the other, expected at ",
                "most ", kMaxSteps);
  }
  double encoded = 1, decoded = 1;
  for (const NormalStep& step : spec.normalise) {
    // A match of a pattern may be empty.
    if (step.kind == NormalStep::Kind::ReplacePattern) encoded *= 1 + growth("", step.to);
    if (step.kind == NormalStep::Kind::Replace) encoded *= growth(step.from, step.to);
  }
  for (const SplitStep& step : spec.split) {
    if (step.kind == SplitStep::Kind::Metaspace) encoded *= growth(" ", step.pattern);
  }
  for (const auto& [from, to] : spec.replace) decoded *= growth(from, to);
  TORCH_CHECK(std::max(encoded, decoded) <= kMaxGrowth, spec.name, ": its steps would make a text ",
              std::max(encoded, decoded), " times as long, expected at most ", kMaxGrowth);
}

}  // namespace

int byte_of(std::string_view piece) {
  if (piece.size() != 6 || piece.substr(0, 3) != "<0x" || piece[5] != '>') return -1;
  int byte = 0;
  for (const char c : piece.substr(3, 2)) {
    const int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
    if (digit < 0) return -1;
    byte = 16 * byte + digit;
  }
  return byte;
}

void check_spec(const TokenizerSpec& spec) {
  const auto n = static_cast<std::int64_t>(spec.pieces.size());
  TORCH_CHECK(n > 0 && n <= kMaxVocab, spec.name, ": expected from 1 to ", kMaxVocab,
              " pieces, got ", n);
  TORCH_CHECK(spec.algorithm == TokenizerSpec::Algorithm::Bpe || !spec.byte_level, spec.name,
              ": a unigram model over bytes is not supported, only over characters");
  check_steps(spec);
  const auto check_size = [&](std::size_t size, const char* what) {
    TORCH_CHECK(size == 0 || size == spec.pieces.size(), spec.name, ": there are ", n,
                " pieces but ", size, " ", what);
  };
  check_size(spec.types.size(), "types of pieces");
  check_size(spec.scores.size(), "scores of pieces");
  const auto check_token = [&](std::int64_t token, const char* what) {
    TORCH_CHECK(token >= 0 && token < n, spec.name, ": ", what, " is token ", token, ", there are ",
                n);
  };
  if (spec.bos) check_token(*spec.bos, "the beginning of a text");
  if (spec.eos) check_token(*spec.eos, "the end of a text");
  if (spec.unknown) check_token(*spec.unknown, "what is unknown");
  for (const TokenIds* tokens : {&spec.before, &spec.after}) {
    for (const std::int64_t token : *tokens) check_token(token, "what is put around a text");
  }
  for (const AddedToken& token : spec.added) check_token(token.id, io::quoted(token.text).c_str());
  for (const std::string& piece : spec.pieces) {
    TORCH_CHECK(spec.byte_level || find_non_utf8(piece) == piece.size(), spec.name, ": the piece ",
                io::quoted(piece), " is not UTF-8");
  }
  for (const auto& [from, to] : spec.replace) {
    TORCH_CHECK(!from.empty(), spec.name, ": a decoder replaces nothing");
  }
  for (const double score : spec.scores) {
    TORCH_CHECK(score - score == 0, spec.name, ": a piece has the score ", score);
  }
}

std::array<std::int32_t, 256> find_byte_pieces(const TokenizerSpec& spec) {
  std::array<std::int32_t, 256> ids;
  ids.fill(-1);
  for (std::size_t i = 0; i < spec.pieces.size(); ++i) {
    if (const int byte = byte_of(spec.pieces[i]); byte >= 0) {
      ids[static_cast<std::size_t>(byte)] = static_cast<std::int32_t>(i);
    }
  }
  const auto* missing = std::find(ids.begin(), ids.end(), -1);
  TORCH_CHECK(missing == ids.end(), spec.name, ": unknown characters become bytes, but byte ",
              missing - ids.begin(), " has no piece");
  return ids;
}

void add_piece(TokenizerSpec& spec, std::int64_t id, std::string piece) {
  TORCH_CHECK(id >= 0 && id < kMaxVocab, spec.name, ": the piece ", io::quoted(piece), " is token ",
              id, ", expected from 0 to ", kMaxVocab - 1);
  const auto i = static_cast<std::size_t>(id);
  if (i >= spec.pieces.size()) spec.pieces.resize(i + 1);
  TORCH_CHECK(spec.pieces[i].empty() || spec.pieces[i] == piece, spec.name, ": token ", id,
              " is both ", io::quoted(spec.pieces[i]), " and ", io::quoted(piece));
  spec.pieces[i] = std::move(piece);
}

void set_words(TokenizerSpec& spec, const std::string& model) {
  spec.byte_level = true;
  if (model == "gpt2") {
    spec.split = {words_by(kGpt2Words)};
  } else if (model == "smollm") {
    SplitStep digits;
    digits.kind = SplitStep::Kind::Digits;
    spec.split = {digits, words_by(kGpt2Words)};
  } else if (model == "llama3") {
    spec.split = {words_by(kLlama3Words)};
    spec.ignore_merges = true;
  } else if (model == "qwen2") {
    spec.split = {words_by(kQwen2Words)};
    spec.normalise = {NormalStep{NormalStep::Kind::Nfc, "", ""}};
  } else {
    TORCH_CHECK(false, spec.name, ": no known way to split text into words is called ",
                io::quoted(model), "; there are gpt2, smollm, llama3 and qwen2");
  }
}

}  // namespace rev::data
