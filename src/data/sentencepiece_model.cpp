// SentencePiece's tokenizer.model: a ModelProto in protobuf's wire format. A message is a row of
// fields; each is a varint (number << 3 | kind), then a varint (kind 0), 8 bytes (1), a varint of a
// length and as many bytes (2), or 4 bytes (5).
#include <c10/util/Exception.h>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "data/character.h"
#include "data/readers.h"
#include "rev/base/mapped_file.h"

namespace rev::data {
namespace {

struct Field {
  std::uint64_t number = 0;
  int kind = 0;
  std::uint64_t value = 0;  // of kind 0; the bits of kinds 1 and 5
  std::string_view bytes;   // of kind 2
};

/// The fields of a message, one by one; every length is checked against what there is.
class Message {
 public:
  Message(std::string_view bytes, const std::string& where) : bytes_(bytes), where_(where) {}

  bool next(Field& field) {
    if (bytes_.empty()) return false;
    const std::uint64_t tag = varint();
    field.number = tag >> 3;
    field.kind = static_cast<int>(tag & 7);
    switch (field.kind) {
      case 0:
        field.value = varint();
        break;
      case 1:
        field.value = fixed(8);
        break;
      case 2: {
        const std::uint64_t length = varint();
        field.bytes = take(length);
        break;
      }
      case 5:
        field.value = fixed(4);
        break;
      default:
        TORCH_CHECK(false, where_, ": not a SentencePiece model: a field of the unknown kind ",
                    field.kind);
    }
    TORCH_CHECK(field.number > 0, where_, ": not a SentencePiece model: a field of number 0");
    return true;
  }

 private:
  std::string_view take(std::uint64_t n) {
    TORCH_CHECK(n <= bytes_.size(), where_,
                ": truncated, or not a SentencePiece model: a field of ", n, " bytes where ",
                bytes_.size(), " are left");
    const std::string_view taken = bytes_.substr(0, n);
    bytes_.remove_prefix(n);
    return taken;
  }
  std::uint64_t varint() {
    std::uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const auto byte = static_cast<unsigned char>(take(1)[0]);
      value |= static_cast<std::uint64_t>(byte & 0x7F) << shift;
      if (byte < 0x80) return value;
    }
    TORCH_CHECK(false, where_, ": not a SentencePiece model: a number of more than 64 bits");
  }
  std::uint64_t fixed(std::size_t n) {
    std::uint64_t value = 0;
    std::memcpy(&value, take(n).data(), n);  // little endian, as this machine is
    return value;
  }

  std::string_view bytes_;
  const std::string& where_;
};

float as_float(std::uint64_t bits) {
  const auto low = static_cast<std::uint32_t>(bits);
  float value = 0;
  std::memcpy(&value, &low, sizeof(value));
  return value;
}

void read_piece(std::string_view bytes, TokenizerSpec& spec) {
  const std::size_t id = spec.pieces.size();
  TORCH_CHECK(id < kMaxVocab, spec.name, ": more than ", kMaxVocab, " pieces");
  std::string piece;
  float score = 0;
  std::uint64_t type = 1;
  Message message(bytes, spec.name);
  for (Field field; message.next(field);) {
    if (field.number == 1 && field.kind == 2) piece = field.bytes;
    if (field.number == 2 && field.kind == 5) score = as_float(field.value);
    if (field.number == 3 && field.kind == 0) type = field.value;
  }
  TORCH_CHECK(!piece.empty(), spec.name, ": piece ", id, " is empty");
  TORCH_CHECK(type >= 1 && type <= 6, spec.name, ": piece ", id, " has the unknown type ", type);
  spec.pieces.push_back(std::move(piece));
  spec.scores.push_back(score);
  spec.types.push_back(static_cast<PieceType>(type));
}

void read_trainer(std::string_view bytes, TokenizerSpec& spec) {
  constexpr std::uint64_t kUnigram = 1, kBpe = 2;
  std::uint64_t algorithm = kUnigram;
  std::int64_t bos = 1, eos = 2;  // the format's defaults; -1: none
  Message message(bytes, spec.name);
  for (Field field; message.next(field);) {
    if (field.kind != 0) continue;
    if (field.number == 3) algorithm = field.value;
    if (field.number == 24) spec.sentencepiece.treat_whitespace_as_suffix = field.value != 0;
    if (field.number == 35) spec.byte_fallback = field.value != 0;
    if (field.number == 41) bos = static_cast<std::int64_t>(field.value);
    if (field.number == 42) eos = static_cast<std::int64_t>(field.value);
  }
  TORCH_CHECK(algorithm == kUnigram || algorithm == kBpe, spec.name, ": its model is of type ",
              algorithm,
              algorithm == 3   ? " (words)"
              : algorithm == 4 ? " (characters)"
                               : "",
              ", which is not supported; there are 1 (unigram) and 2 (BPE)");
  spec.algorithm =
      algorithm == kBpe ? TokenizerSpec::Algorithm::Bpe : TokenizerSpec::Algorithm::Unigram;
  spec.bos = bos;
  spec.eos = eos;
}

void read_normaliser(std::string_view bytes, TokenizerSpec& spec) {
  SentencePieceRules& rules = spec.sentencepiece;
  Message message(bytes, spec.name);
  for (Field field; message.next(field);) {
    if (field.number == 2 && field.kind == 2) rules.charsmap = field.bytes;
    if (field.kind != 0) continue;
    if (field.number == 3) rules.add_dummy_prefix = field.value != 0;
    if (field.number == 4) rules.remove_extra_whitespaces = field.value != 0;
    if (field.number == 5) rules.escape_whitespaces = field.value != 0;
  }
}

/// A token that the trainer names, where the pieces have such a control token.
std::optional<std::int64_t> control(const std::optional<std::int64_t>& id,
                                    const TokenizerSpec& spec) {
  if (!id || *id < 0 || *id >= static_cast<std::int64_t>(spec.types.size())) return std::nullopt;
  if (spec.types[static_cast<std::size_t>(*id)] != PieceType::Control) return std::nullopt;
  return id;
}

}  // namespace

void finish_sentencepiece(TokenizerSpec& spec) {
  spec.join_pieces = true;
  spec.single_precision = true;
  spec.normalise = {NormalStep{NormalStep::Kind::SentencePiece, "", ""}};
  spec.replace = {{std::string(kSpaceSymbol), " "}};
  const SentencePieceRules& rules = spec.sentencepiece;
  spec.strip = (rules.add_dummy_prefix || rules.remove_extra_whitespaces) &&
                       !rules.treat_whitespace_as_suffix
                   ? 1
                   : 0;
  for (std::size_t i = 0; i < spec.pieces.size(); ++i) {
    if (spec.types[i] == PieceType::Unknown) spec.unknown = static_cast<std::int64_t>(i);
    if (spec.types[i] == PieceType::Control || spec.types[i] == PieceType::Unknown) {
      add_token(spec, i);
    }
  }
}

TokenizerSpec read_sentencepiece(const std::filesystem::path& path) {
  const base::MappedFile file(path);
  TokenizerSpec spec;
  spec.name = path.string();
  spec.algorithm = TokenizerSpec::Algorithm::Unigram;  // the format's defaults
  spec.bos = 1;
  spec.eos = 2;
  Message message(file.text(), spec.name);
  for (Field field; message.next(field);) {
    if (field.kind != 2) continue;
    if (field.number == 1) read_piece(field.bytes, spec);
    if (field.number == 2) read_trainer(field.bytes, spec);
    if (field.number == 3) read_normaliser(field.bytes, spec);
  }
  TORCH_CHECK(!spec.pieces.empty(), spec.name, ": a SentencePiece model without pieces");
  spec.bos = control(spec.bos, spec);
  spec.eos = control(spec.eos, spec);
  finish_sentencepiece(spec);
  if (spec.bos) spec.before = {*spec.bos};
  return spec;
}

}  // namespace rev::data
