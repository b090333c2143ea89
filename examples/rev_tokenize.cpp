// Shows what a tokenizer makes of a text, and reads it back:
//
//   rev-tokenize --tokenizer FILE text.txt             the tokens of each line, separated by spaces
//   rev-tokenize --tokenizer FILE --decode tokens.txt  the text of each line of tokens
//
// Exit codes: 0 done; 2 bad input; 1 the output cannot be written.
#include <algorithm>
#include <c10/util/Exception.h>
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <iostream>
#include <iterator>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>

#include "command_line.h"
#include "rev/base/mapped_file.h"
#include "rev/data/open_tokenizer.h"

namespace {

using namespace rev;

struct Options {
  std::string tokenizer, words, text_file;
  bool decode = false, whole = false, add_special = false, parse_special = true;
};

bool parse_options(int argc, char** argv, Options& o) {
  CLI::App app(
      "Prints the tokens of each line of a text, separated by spaces; with --decode the text of "
      "each line of tokens.",
      "rev-tokenize");
  const AddTo add{app};
  add("tokenizer", o.tokenizer, text("FILE"),
      "tokenizer.json, vocab.json or merges.txt, a SentencePiece model, a .tiktoken or GGUF file, "
      "a "
      "folder with one of them, or bytes (needed)");
  add("words", o.words, one_of({"gpt2", "smollm", "llama3", "qwen2"}),
      "how text is split into words, where the tokenizer's file does not say");
  app.add_flag("--decode", o.decode, "read tokens and print their text");
  app.add_flag("--whole", o.whole, "take the input as one text, not line by line");
  app.add_flag("--add-special", o.add_special,
               "put the tokens that the model expects around a text there");
  add("parse-special", o.parse_special, text(""),
      "read special tokens that are spelled out in the text as tokens");
  app.add_option("TEXT_FILE", o.text_file, "what to read; standard input unless given");
  if (!parse(app, argc, argv)) return false;
  TORCH_CHECK(!o.tokenizer.empty(), "--tokenizer FILE is needed: a tokenizer's file, or bytes");
  return true;
}

/// Calls `each` for every line, without its end, or for all of the text at once.
void visit(const Options& o, const std::function<void(std::string_view)>& each) {
  std::unique_ptr<base::MappedFile> file;
  std::string line;
  if (o.text_file.empty()) {
    if (!o.whole) {
      while (std::getline(std::cin, line)) each(line);
      return;
    }
    line.assign(std::istreambuf_iterator<char>(std::cin), {});
  } else {
    file = std::make_unique<base::MappedFile>(o.text_file);
  }
  std::string_view text = file ? file->text() : std::string_view(line);
  if (o.whole) return each(text);
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    each(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
}

void print(std::string_view text) { std::fwrite(text.data(), 1, text.size(), stdout); }

std::string list_tokens(const data::TokenIds& tokens) {
  std::string out;
  char digits[24];
  for (const int64_t token : tokens) {
    if (!out.empty()) out += ' ';
    out.append(digits, std::to_chars(digits, digits + sizeof(digits), token).ptr);
  }
  return out;
}

data::TokenIds read_tokens(std::string_view line, int64_t number) {
  data::TokenIds tokens;
  const char* const spaces = " \t\r\n";
  for (size_t at = line.find_first_not_of(spaces); at != std::string_view::npos;
       at = line.find_first_not_of(spaces, at)) {
    const std::string_view word = line.substr(at, line.find_first_of(spaces, at) - at);
    int64_t token = 0;
    const auto read = std::from_chars(word.data(), word.data() + word.size(), token);
    TORCH_CHECK(read.ec == std::errc() && read.ptr == word.data() + word.size(), "line ", number,
                ": expected tokens, whole numbers separated by spaces, got ",
                std::string(word.substr(0, 40)));
    tokens.push_back(token);
    at += word.size();
  }
  return tokens;
}

int tokenize(int argc, char** argv) {
  Options o;
  if (!parse_options(argc, argv, o)) return 0;
  const data::TokenizerPtr tokenizer =
      o.tokenizer == "bytes" ? data::byte_tokenizer() : data::open_tokenizer(o.tokenizer, o.words);
  int64_t number = 0;
  visit(o, [&](std::string_view line) {
    ++number;
    if (!o.decode)
      return print(list_tokens(tokenizer->encode(line, {o.add_special, o.parse_special})) + '\n');
    const data::TokenIds tokens = read_tokens(line, number);
    print(tokenizer->decode_bytes(tokens) + (o.whole ? "" : "\n"));
  });
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return run_command("rev-tokenize", [&] { return tokenize(argc, argv); });
}
