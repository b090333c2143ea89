// GPT-2's two files: a JSON object from pieces to tokens (vocab.json, encoder.json), and a pair of
// pieces a line, the first one first (merges.txt, vocab.bpe).
#include <algorithm>
#include <c10/util/Exception.h>
#include <string>
#include <string_view>
#include <utility>

#include "data/readers.h"
#include "io/json.h"
#include "rev/base/mapped_file.h"

namespace rev::data {

std::int64_t read_token(const nlohmann::json& id, const std::string& what) {
  TORCH_CHECK(id.is_number_unsigned() && id.get<std::uint64_t>() < kMaxVocab, what,
              " is not a whole number below ", kMaxVocab);
  return id.get<std::int64_t>();
}

void add_pieces(TokenizerSpec& spec, const nlohmann::json& vocab, const std::string& where) {
  TORCH_CHECK(vocab.is_object() && !vocab.empty(), where,
              ": expected a JSON object of pieces and their tokens");
  for (const auto& [piece, id] : vocab.items()) {
    add_piece(spec, read_token(id, where + ": the token of " + io::quoted(piece)), piece);
  }
}

void add_merge(TokenizerSpec& spec, std::string_view merge) {
  const std::size_t space = merge.find(' ');
  TORCH_CHECK(space != std::string_view::npos && space > 0 && space + 1 < merge.size() &&
                  merge.find(' ', space + 1) == std::string_view::npos,
              spec.name, ": merge ", spec.merges.size(),
              " is not a pair of pieces: ", io::quoted(std::string(merge)));
  spec.merges.emplace_back(merge.substr(0, space), merge.substr(space + 1));
}

TokenizerSpec read_vocab_and_merges(const nlohmann::json& json, const std::filesystem::path& path,
                                    const std::filesystem::path& merges, const std::string& model) {
  TokenizerSpec spec;
  add_pieces(spec, json, path.string());
  spec.name = merges.string();
  const base::MappedFile file(merges);
  visit_lines(file.text(), [&](std::string_view line, std::size_t number) {
    if (line.empty() || (number == 1 && line.substr(0, 9) == "#version:")) return;
    add_merge(spec, line);
  });
  TORCH_CHECK(!spec.merges.empty(), spec.name, ": holds no merges");
  set_words(spec, model);
  spec.ignore_merges = false;
  for (const char* text : {"<|endoftext|>", "<|im_start|>", "<|im_end|>"}) {
    const auto found = std::find(spec.pieces.begin(), spec.pieces.end(), text);
    if (found == spec.pieces.end()) continue;
    add_token(spec, static_cast<std::size_t>(found - spec.pieces.begin()));
    if (spec.added.size() == 1) spec.bos = spec.eos = spec.added[0].id;
  }
  return spec;
}

}  // namespace rev::data
