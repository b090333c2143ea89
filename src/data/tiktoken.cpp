// A .tiktoken file: a line for each token, its bytes in base64, a space, its number. There are no
// merges: of neighbours whose concatenation is a token those join first whose token is smallest.
#include <c10/util/Exception.h>
#include <charconv>
#include <string>
#include <string_view>
#include <utility>

#include "data/byte_alphabet.h"
#include "data/readers.h"
#include "io/json.h"
#include "rev/base/mapped_file.h"

namespace rev::data {
namespace {

/// What a file of so many tokens is, and the special tokens that follow them.
struct KnownRanks {
  std::size_t n_tokens;
  const char* model;
};
constexpr KnownRanks kKnown[] = {{50256, "gpt2"}, {128000, "llama3"}, {151643, "qwen2"}};

void add_special(TokenizerSpec& spec, std::string text) {
  spec.pieces.push_back(std::move(text));
  spec.types.push_back(PieceType::Control);
  add_token(spec, spec.pieces.size() - 1);
}

void add_reserved(TokenizerSpec& spec, int first, int last) {
  for (int i = first; i <= last; ++i) {
    add_special(spec, "<|reserved_special_token_" + std::to_string(i) + "|>");
  }
}

void add_special_tokens(TokenizerSpec& spec, const std::string& model) {
  const auto first = static_cast<std::int64_t>(spec.pieces.size());
  if (model == "gpt2" || model == "smollm") {
    add_special(spec, "<|endoftext|>");
    spec.bos = spec.eos = first;
  } else if (model == "qwen2") {
    for (const char* text : {"<|endoftext|>", "<|im_start|>", "<|im_end|>"})
      add_special(spec, text);
    for (int i = 0; i < 205; ++i) add_special(spec, "<|extra_" + std::to_string(i) + "|>");
    spec.eos = first;
  } else {
    add_special(spec, "<|begin_of_text|>");
    add_special(spec, "<|end_of_text|>");
    add_reserved(spec, 0, 3);
    for (const char* text : {"<|start_header_id|>", "<|end_header_id|>"}) add_special(spec, text);
    add_reserved(spec, 4, 4);
    add_special(spec, "<|eot_id|>");
    add_reserved(spec, 5, 250);
    spec.bos = first;
    spec.eos = first + 1;
    spec.before = {first};
  }
}

void read_line(std::string_view line, std::size_t number, TokenizerSpec& spec) {
  const std::string where = spec.name + ": line " + std::to_string(number);
  const std::size_t space = line.find(' ');
  TORCH_CHECK(space != std::string_view::npos && space > 0, where,
              ": expected base64, a space and a token");
  std::int64_t id = -1;
  const char* end = line.data() + line.size();
  const auto read = std::from_chars(line.data() + space + 1, end, id);
  TORCH_CHECK(read.ec == std::errc() && read.ptr == end, where, ": the token ",
              io::quoted(std::string(line.substr(space + 1))), " is not a whole number");
  add_piece(spec, id, to_letters(decode_base64(line.substr(0, space), where)));
}

}  // namespace

std::string decode_base64(std::string_view text, const std::string& where) {
  while (!text.empty() && text.back() == '=') text.remove_suffix(1);
  std::string out;
  out.reserve(text.size() / 4 * 3 + 2);
  std::uint32_t bits = 0;
  int n_bits = 0;
  for (const char c : text) {
    const int value = c >= 'A' && c <= 'Z'   ? c - 'A'
                      : c >= 'a' && c <= 'z' ? c - 'a' + 26
                      : c >= '0' && c <= '9' ? c - '0' + 52
                      : c == '+'             ? 62
                      : c == '/'             ? 63
                                             : -1;
    TORCH_CHECK(value >= 0, where, ": not base64: ", io::quoted(std::string(1, c)));
    bits = bits << 6 | static_cast<std::uint32_t>(value);
    n_bits += 6;
    if (n_bits < 8) continue;
    n_bits -= 8;
    out += static_cast<char>(bits >> n_bits & 0xFF);
  }
  TORCH_CHECK(text.size() % 4 != 1, where, ": not base64: a single digit at the end");
  return out;
}

TokenizerSpec read_tiktoken(const std::filesystem::path& path, const std::string& model) {
  const base::MappedFile file(path);
  TokenizerSpec spec;
  spec.name = path.string();
  visit_lines(file.text(), [&](std::string_view line, std::size_t number) {
    if (!line.empty()) read_line(line, number, spec);
  });
  const std::size_t n = spec.pieces.size();
  TORCH_CHECK(n > 0, spec.name, ": holds no tokens");
  for (std::size_t i = 0; i < n; ++i) {
    TORCH_CHECK(!spec.pieces[i].empty(), spec.name, ": token ", i, " is missing below the last, ",
                n - 1);
  }
  std::string known = model;
  for (const KnownRanks& ranks : kKnown) {
    if (known.empty() && n == ranks.n_tokens) known = ranks.model;
  }
  TORCH_CHECK(!known.empty(), spec.name, ": ", n,
              " tokens are those of no known model, of which 50256 (gpt2), 128000 (llama3) and "
              "151643 (qwen2) have .tiktoken files; name the way that text is split");
  spec.types.assign(n, PieceType::Normal);
  set_words(spec, known);
  spec.join_pieces = true;
  spec.ignore_merges = true;  // a word that is a token is that token: tiktoken's own rule
  add_special_tokens(spec, known);
  return spec;
}

}  // namespace rev::data
