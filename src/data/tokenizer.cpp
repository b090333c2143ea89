#include "rev/data/tokenizer.h"

#include <c10/util/Exception.h>

#include "rev/data/utf8.h"

namespace rev::data {
namespace {

class ByteTokenizer final : public Tokenizer {
 public:
  std::int64_t vocab() const override { return kBytes; }
  std::string piece(std::int64_t token) const override { return std::string(1, byte(token)); }
  std::optional<std::int64_t> find(std::string_view piece) const override {
    if (piece.size() != 1) return std::nullopt;
    return static_cast<unsigned char>(piece[0]);
  }
  bool is_special(std::int64_t token) const override { return byte(token), false; }
  std::optional<std::int64_t> bos() const override { return std::nullopt; }
  std::optional<std::int64_t> eos() const override { return std::nullopt; }
  const std::string& chat_template() const override { return none_; }
  std::uint64_t digest() const override { return 0; }

 private:
  static constexpr std::int64_t kBytes = 256;

  static char byte(std::int64_t token) {
    TORCH_CHECK(token >= 0 && token < kBytes, "decode: token ", token,
                " is outside of the vocabulary of ", kBytes);
    return static_cast<char>(token);
  }
  void append_tokens(std::string_view text, const EncodeOptions&, TokenIds& out) const override {
    out.reserve(text.size());
    for (const char c : text) out.push_back(static_cast<unsigned char>(c));
  }
  void append_bytes(const TokenIds& tokens, bool, std::string& out) const override {
    for (const std::int64_t token : tokens) out += byte(token);
  }

  const std::string none_;
};

}  // namespace

TokenIds Tokenizer::encode(std::string_view text, const EncodeOptions& options) const {
  TokenIds out;
  append_tokens(text, options, out);
  return out;
}

std::string Tokenizer::decode_bytes(const TokenIds& tokens, bool skip_special) const {
  std::string out;
  append_bytes(tokens, skip_special, out);
  return out;
}

std::string Tokenizer::decode(const TokenIds& tokens, bool skip_special) const {
  return replace_non_utf8(decode_bytes(tokens, skip_special), Replace::Subpart);
}

TokenIds Tokenizer::between_texts() const { return eos() ? TokenIds{*eos()} : encode("\n"); }

TokenizerPtr byte_tokenizer() { return std::make_shared<ByteTokenizer>(); }

}  // namespace rev::data
