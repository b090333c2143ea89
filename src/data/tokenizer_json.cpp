// Hugging Face's tokenizer.json: a pipeline of named steps, each a JSON object with its type.
#include <algorithm>
#include <c10/util/Exception.h>
#include <string>
#include <utility>

#include "data/character.h"
#include "data/json_object.h"
#include "data/readers.h"

namespace rev::data {
namespace {

using Json = JsonObject::Json;
using Normal = NormalStep::Kind;
using Split = SplitStep::Kind;
using Behaviour = SplitStep::Behaviour;
using Prepend = SplitStep::Prepend;

[[noreturn]] void refuse(const JsonObject& step, const char* known) {
  TORCH_CHECK(false, step.where(), ": the type ", io::quoted(step.text("type")),
              " is not supported; there are ", known);
}

/// A step, or each of a Sequence's. A sequence in a sequence is no deeper than the file.
template <class Visit>
void visit_steps(const JsonObject& step, const char* members, const Visit& visit) {
  if (step.text("type") != "Sequence") return visit(step);
  for (const Json& inner : step.list(members)) {
    visit_steps(JsonObject(inner, step.where()), members, visit);
  }
}

// ---- model

void read_merges(const JsonObject& model, TokenizerSpec& spec) {
  const Json& merges = model.list("merges");
  spec.merges.reserve(merges.size());
  for (const Json& merge : merges) {
    if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
      spec.merges.emplace_back(merge[0].get<std::string>(), merge[1].get<std::string>());
      continue;
    }
    TORCH_CHECK(merge.is_string(), model.where(), ": merge ", spec.merges.size(),
                " is not a pair of pieces");
    add_merge(spec, merge.get_ref<const std::string&>());
  }
}

void read_bpe(const JsonObject& model, TokenizerSpec& spec) {
  spec.algorithm = TokenizerSpec::Algorithm::Bpe;
  add_pieces(spec, model.member("vocab"), model.where() + ": vocab");
  read_merges(model, spec);
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    TORCH_CHECK(model.text(key, "").empty(), model.where(), ": ", key, " ",
                io::quoted(model.text(key, "")), " is not supported, only words without one");
  }
  TORCH_CHECK(!model.has("dropout") || model.member("dropout") == 0, model.where(),
              ": dropout of merges is not supported");
  spec.byte_fallback = model.flag("byte_fallback", false);
  spec.ignore_merges = model.flag("ignore_merges", false);
  spec.fuse_unknown = model.flag("fuse_unk", false);
  if (!model.has("unk_token")) return;
  const std::string unknown = model.text("unk_token");
  const auto found = std::find(spec.pieces.begin(), spec.pieces.end(), unknown);
  TORCH_CHECK(found != spec.pieces.end(), model.where(), ": unk_token ", io::quoted(unknown),
              " is no piece");
  spec.unknown = found - spec.pieces.begin();
}

void read_unigram(const JsonObject& model, TokenizerSpec& spec) {
  spec.algorithm = TokenizerSpec::Algorithm::Unigram;
  for (const Json& entry : model.list("vocab")) {
    TORCH_CHECK(
        entry.is_array() && entry.size() == 2 && entry[0].is_string() && entry[1].is_number(),
        model.where(), ": entry ", spec.scores.size(), " is not a piece and its score");
    add_piece(spec, static_cast<std::int64_t>(spec.scores.size()), entry[0].get<std::string>());
    spec.scores.push_back(entry[1].get<double>());
  }
  spec.byte_fallback = model.flag("byte_fallback", false);
  spec.unknown = model.get<std::int64_t>("unk_id");
}

void read_model(const JsonObject& model, TokenizerSpec& spec) {
  // Files of before 2021 name no type.
  const std::string type = model.text("type", model.has("merges") ? "BPE" : "Unigram");
  if (type == "BPE") {
    read_bpe(model, spec);
  } else if (type == "Unigram") {
    read_unigram(model, spec);
  } else {
    refuse(model, "BPE and Unigram");
  }
}

void read_added_tokens(const JsonObject& file, TokenizerSpec& spec) {
  if (!file.has("added_tokens")) return;
  for (const Json& entry : file.list("added_tokens")) {
    const JsonObject token(entry, file.where() + ": added_tokens");
    read_added_token(token, token.get<std::int64_t>("id"), spec);
  }
}

// ---- normalizer

void read_pattern(const JsonObject& step, std::string& pattern, bool& is_expression) {
  const JsonObject object = step.object("pattern");
  is_expression = object.has("Regex");
  pattern = object.text(is_expression ? "Regex" : "String");
}

void read_normaliser(const JsonObject& step, TokenizerSpec& spec) {
  const std::string type = step.text("type");
  NormalStep made;
  if (type == "NFC") {
    made.kind = Normal::Nfc;
  } else if (type == "NFD") {
    made.kind = Normal::Nfd;
  } else if (type == "NFKC") {
    made.kind = Normal::Nfkc;
  } else if (type == "NFKD") {
    made.kind = Normal::Nfkd;
  } else if (type == "Lowercase") {
    made.kind = Normal::Lowercase;
  } else if (type == "Prepend") {
    made.kind = Normal::Prepend;
    made.to = step.text("prepend");
  } else if (type == "Replace") {
    bool is_expression = false;
    read_pattern(step, made.from, is_expression);
    made.kind = is_expression ? Normal::ReplacePattern : Normal::Replace;
    made.to = step.text("content");
  } else if (type == "Strip") {
    made.kind = Normal::StripRight;
    if (step.flag("strip_right", true)) spec.normalise.push_back(made);
    made.kind = Normal::StripLeft;
    if (!step.flag("strip_left", true)) return;
  } else if (type == "Precompiled") {
    made.kind = Normal::Charsmap;
    made.from = decode_base64(step.text("precompiled_charsmap"), step.where());
  } else {
    refuse(step,
           "NFC, NFD, NFKC, NFKD, Lowercase, Prepend, Replace, Strip, Precompiled and Sequence");
  }
  spec.normalise.push_back(std::move(made));
}

// ---- pre_tokenizer

Behaviour read_behaviour(const JsonObject& step) {
  const std::string name = step.text("behavior");
  if (name == "Removed") return Behaviour::Removed;
  if (name == "Isolated") return Behaviour::Isolated;
  if (name == "MergedWithPrevious") return Behaviour::MergedWithPrevious;
  if (name == "MergedWithNext") return Behaviour::MergedWithNext;
  TORCH_CHECK(name == "Contiguous", step.where(), ": unknown behavior ", io::quoted(name));
  return Behaviour::Contiguous;
}

Prepend read_prepend(const JsonObject& step) {
  const bool add = step.flag("add_prefix_space", true);  // what files of before 2024 say
  const std::string name = step.text("prepend_scheme", add ? "always" : "never");
  if (name == "never") return Prepend::Never;
  if (name == "first") return Prepend::First;
  TORCH_CHECK(name == "always", step.where(), ": unknown prepend_scheme ", io::quoted(name));
  return Prepend::Always;
}

void read_splitter(const JsonObject& step, TokenizerSpec& spec) {
  TORCH_CHECK(!spec.byte_level, step.where(), ": a step after ByteLevel is not supported");
  const std::string type = step.text("type");
  SplitStep made;
  if (type == "ByteLevel") {
    spec.byte_level = true;
    if (step.flag("add_prefix_space", true)) {
      made.kind = Split::PrefixSpace;
      spec.split.push_back(made);
    }
    if (!step.flag("use_regex", true)) return;
    made.kind = Split::Pattern;
    made.pattern = kGpt2Words;
  } else if (type == "Split") {
    bool is_expression = false;
    read_pattern(step, made.pattern, is_expression);
    made.kind = is_expression ? Split::Pattern : Split::Text;
    made.behaviour = read_behaviour(step);
    made.invert = step.flag("invert", false);
  } else if (type == "Digits") {
    made.kind = Split::Digits;
    made.individual = step.flag("individual_digits", false);
  } else if (type == "Metaspace") {
    made.kind = Split::Metaspace;
    made.pattern = step.text("replacement", std::string(kSpaceSymbol));
    made.prepend = read_prepend(step);
    made.split = step.flag("split", true);
  } else if (type == "WhitespaceSplit") {
    made.kind = Split::Pattern;
    made.pattern = "\\s";
    made.behaviour = Behaviour::Removed;
  } else {
    refuse(step, "ByteLevel, Split, Digits, Metaspace, WhitespaceSplit and Sequence");
  }
  spec.split.push_back(std::move(made));
}

// ---- post_processor

std::int64_t read_pair(const JsonObject& step, const char* key) {
  const Json& pair = step.list(key);
  TORCH_CHECK(pair.size() == 2, step.where(), ": ", key, " is not a piece and its token");
  return read_token(pair[1], step.where() + ": " + key);
}

void read_template(const JsonObject& step, TokenizerSpec& spec) {
  bool text_was = false;
  for (const Json& entry : step.list("single")) {
    const JsonObject part(entry, step.where() + ": single");
    if (part.has("Sequence")) {
      text_was = true;
      continue;
    }
    const std::string name = part.object("SpecialToken").text("id");
    const JsonObject token = step.object("special_tokens").object(name.c_str());
    for (const Json& id : token.list("ids")) {
      (text_was ? spec.after : spec.before).push_back(read_token(id, token.where() + ": ids"));
    }
  }
}

void read_post_processor(const JsonObject& step, TokenizerSpec& spec) {
  const std::string type = step.text("type");
  if (type == "ByteLevel") return;  // it tells positions in the text, which tokens do not need
  if (type == "TemplateProcessing") {
    read_template(step, spec);
  } else if (type == "RobertaProcessing" || type == "BertProcessing") {
    spec.before.push_back(read_pair(step, "cls"));
    spec.after.push_back(read_pair(step, "sep"));
  } else {
    refuse(step, "ByteLevel, TemplateProcessing, RobertaProcessing, BertProcessing and Sequence");
  }
}

// ---- decoder

void read_decoder(const JsonObject& step, TokenizerSpec& spec) {
  const std::string type = step.text("type");
  if (type == "ByteLevel") {
    TORCH_CHECK(spec.byte_level, step.where(), ": ByteLevel does not go with words of characters");
  } else if (type == "Replace") {
    bool is_expression = false;
    std::string from;
    read_pattern(step, from, is_expression);
    TORCH_CHECK(!is_expression, step.where(),
                ": replaces by a regular expression, which is not "
                "supported");
    spec.replace.emplace_back(std::move(from), step.text("content"));
  } else if (type == "Metaspace") {
    spec.replace.emplace_back(step.text("replacement", std::string(kSpaceSymbol)), " ");
    if (read_prepend(step) != Prepend::Never) spec.strip = 1;
  } else if (type == "Strip") {
    TORCH_CHECK(step.text("content") == " " && step.get<std::int64_t>("start") >= 0 &&
                    step.get<std::int64_t>("stop") == 0,
                step.where(),
                ": strips something other than spaces from the front, which is not "
                "supported");
    spec.strip = step.get<std::int64_t>("start");
  } else if (type != "ByteFallback" && type != "Fuse") {
    refuse(step, "ByteLevel, Replace, Metaspace, Strip, ByteFallback, Fuse and Sequence");
  }
}

}  // namespace

void read_added_token(const JsonObject& token, std::int64_t id, TokenizerSpec& spec) {
  AddedToken added;
  added.text = token.text("content");
  added.id = id;
  added.special = token.flag("special", false);
  added.normalised = token.flag("normalized", !added.special);
  added.single_word = token.flag("single_word", false);
  added.strip_left = token.flag("lstrip", false);
  added.strip_right = token.flag("rstrip", false);
  TORCH_CHECK(!added.text.empty(), token.where(), ": token ", id, " is empty");
  const auto i = static_cast<std::size_t>(id);
  if (id < 0 || i >= spec.pieces.size() || spec.pieces[i].empty()) {
    // What is added after a model was made is no piece of it.
    if (spec.types.empty()) spec.types.assign(spec.scores.size(), PieceType::Normal);
    add_piece(spec, id, added.text);
    if (!spec.types.empty()) spec.types.resize(spec.pieces.size(), PieceType::Control);
    if (!spec.scores.empty()) spec.scores.resize(spec.pieces.size());
  }
  spec.added.push_back(std::move(added));
}

TokenizerSpec read_tokenizer_json(const Json& json, const std::filesystem::path& path) {
  TokenizerSpec spec;
  spec.name = path.string();
  const JsonObject file(json, spec.name);
  read_model(file.object("model"), spec);
  read_added_tokens(file, spec);
  if (file.has("normalizer")) {
    visit_steps(file.object("normalizer"), "normalizers",
                [&](const JsonObject& step) { read_normaliser(step, spec); });
  }
  if (file.has("pre_tokenizer")) {
    visit_steps(file.object("pre_tokenizer"), "pretokenizers",
                [&](const JsonObject& step) { read_splitter(step, spec); });
  }
  if (file.has("post_processor")) {
    visit_steps(file.object("post_processor"), "processors",
                [&](const JsonObject& step) { read_post_processor(step, spec); });
  }
  if (file.has("decoder")) {
    visit_steps(file.object("decoder"), "decoders",
                [&](const JsonObject& step) { read_decoder(step, spec); });
  }
  if (spec.before.size() == 1) spec.bos = spec.before[0];
  if (spec.after.size() == 1) spec.eos = spec.after[0];
  return spec;
}

}  // namespace rev::data
