#include "data/normaliser.h"

#include <algorithm>
#include <c10/util/Exception.h>
#include <cstdlib>
#include <memory>
#include <utf8proc.h>
#include <utility>

#include "data/character.h"
#include "rev/data/utf8.h"

namespace rev::data {
namespace {

using Kind = NormalStep::Kind;

// Whether all bytes are below that of some lead: such characters stay as they are.
bool is_below(std::string_view text, unsigned char lead) {
  return std::all_of(text.begin(), text.end(),
                     [=](char c) { return static_cast<unsigned char>(c) < lead; });
}

std::string normal_form(std::string_view text, int form) {
  utf8proc_uint8_t* result = nullptr;
  const utf8proc_ssize_t size =
      utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                   static_cast<utf8proc_ssize_t>(text.size()), &result,
                   static_cast<utf8proc_option_t>(UTF8PROC_STABLE | form));
  const std::unique_ptr<utf8proc_uint8_t, void (*)(void*)> owner(result, std::free);
  TORCH_CHECK(size >= 0, "normalising ", text.size(), " bytes of text: ", utf8proc_errmsg(size));
  return {reinterpret_cast<const char*>(result), static_cast<std::size_t>(size)};
}

// NFC of stretches that may change. No character below U+0300 (whose lead is 0xCC) joins one before
// it, so that a stretch begins with the character before a higher one and ends before a lower one.
// False where the text is NFC already.
bool compose(std::string_view text, std::string& out) {
  constexpr unsigned char kLead = 0xCC;
  const auto lead = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  bool changed = false;
  std::size_t done = 0, last = 0;
  for (std::size_t at = 0; at < text.size();) {
    if (lead(at) < kLead) {
      last = at;
      at += character_bytes(text[at]);
      continue;
    }
    std::size_t end = at;
    while (end < text.size() && lead(end) >= kLead) end += character_bytes(text[end]);
    const std::string_view stretch = text.substr(last, end - last);
    const std::string normal = normal_form(stretch, UTF8PROC_COMPOSE);
    if (normal != stretch) {
      if (!changed) out.clear();
      changed = true;
      out.append(text.substr(done, last - done)).append(normal);
      done = end;
    }
    last = at = end;
  }
  if (changed) out.append(text.substr(done));
  return changed;
}

std::string lowercase(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const char32_t c = read_character(text);
    text.remove_prefix(character_bytes(text[0]));
    if (c == 0x130) {  // the one character whose small letter is two
      out += "i\xCC\x87";
    } else {
      append_character(static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c))),
                       out);
    }
  }
  return out;
}

std::string replace_matches(std::string_view text, const Pattern& pattern, const std::string& to,
                            PatternScratch& scratch) {
  std::string out;
  std::size_t done = 0;
  Pattern::Match match;
  for (std::size_t from = 0; from <= text.size() && pattern.find(text, from, scratch, match);) {
    out.append(text.substr(done, match.begin - done)).append(to);
    done = match.end;
    from = match.end;
    if (match.begin == match.end) from += from < text.size() ? character_bytes(text[from]) : 1;
  }
  return out.append(text.substr(std::min(done, text.size())));
}

// Grapheme by grapheme: a short one as a whole where the map has a beginning of it, else its
// characters. This is what Hugging Face's tokenizers do; SentencePiece looks for the longest match.
std::string map_graphemes(std::string_view text, const Charsmap& charsmap) {
  constexpr std::size_t kShort = 6;  // bytes
  std::string out;
  const auto map = [&](std::string_view part) {
    const Charsmap::Match match = charsmap.shortest(part);
    if (match.length > 0) out.append(match.by);
    return match.length > 0;
  };
  const auto flush = [&](std::string_view grapheme) {
    if (grapheme.size() < kShort && map(grapheme)) return;
    while (!grapheme.empty()) {
      const std::string_view c = grapheme.substr(0, character_bytes(grapheme[0]));
      if (!map(c)) out.append(c);
      grapheme.remove_prefix(c.size());
    }
  };
  std::size_t begin = 0;
  utf8proc_int32_t state = 0;
  char32_t last = 0;
  for (std::size_t at = 0; at < text.size(); at += character_bytes(text[at])) {
    const char32_t c = read_character(text.substr(at));
    if (at > 0 && utf8proc_grapheme_break_stateful(static_cast<utf8proc_int32_t>(last),
                                                   static_cast<utf8proc_int32_t>(c), &state)) {
      flush(text.substr(begin, at - begin));
      begin = at;
    }
    last = c;
  }
  flush(text.substr(begin));
  return out;
}

}  // namespace

std::string replace_all(std::string_view text, const std::string& from, const std::string& to) {
  std::string out;
  for (;;) {
    const std::size_t at = text.find(from);
    if (at == std::string_view::npos) return out.append(text);
    out.append(text.substr(0, at)).append(to);
    text.remove_prefix(at + from.size());
  }
}

Normaliser::Normaliser(const TokenizerSpec& spec, Trie protect)
    : rules_(spec.sentencepiece), protect_(std::move(protect)) {
  for (const NormalStep& step : spec.normalise) {
    Step made{step, std::nullopt, {}};
    const bool finds = step.kind == Kind::Replace || step.kind == Kind::ReplacePattern;
    TORCH_CHECK(!finds || !step.from.empty(), spec.name, ": a normaliser replaces nothing");
    if (step.kind == Kind::ReplacePattern) {
      made.pattern.emplace(step.from, spec.name + ": normaliser");
    } else if (step.kind == Kind::Charsmap) {
      made.charsmap = Charsmap(step.from, spec.name + ": normaliser");
    } else if (step.kind == Kind::SentencePiece) {
      made.charsmap = Charsmap(rules_.charsmap, spec.name + ": normaliser");
    }
    steps_.push_back(std::move(made));
  }
}

std::string_view Normaliser::operator()(std::string_view text, std::string& storage,
                                        PatternScratch& scratch) const {
  std::string_view now = text;
  const auto take = [&](std::string result) {
    storage = std::move(result);
    now = storage;
  };
  for (const Step& s : steps_) {
    const NormalStep& step = s.step;
    switch (step.kind) {
      case Kind::Nfc: {
        std::string composed;
        if (compose(now, composed)) take(std::move(composed));
        break;
      }
      case Kind::Nfd:
        if (!is_below(now, 0x80)) take(normal_form(now, UTF8PROC_DECOMPOSE));
        break;
      case Kind::Nfkc:
        if (!is_below(now, 0x80)) take(normal_form(now, UTF8PROC_COMPOSE | UTF8PROC_COMPAT));
        break;
      case Kind::Nfkd:
        if (!is_below(now, 0x80)) take(normal_form(now, UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT));
        break;
      case Kind::Lowercase:
        take(lowercase(now));
        break;
      case Kind::Prepend:
        if (!now.empty()) take(step.to + std::string(now));
        break;
      case Kind::Replace:
        take(replace_all(now, step.from, step.to));
        break;
      case Kind::ReplacePattern:
        take(replace_matches(now, *s.pattern, step.to, scratch));
        break;
      case Kind::StripLeft:
        now = strip_left(now);
        break;
      case Kind::StripRight:
        now = strip_right(now);
        break;
      case Kind::Charsmap:
        take(map_graphemes(now, s.charsmap));
        break;
      case Kind::SentencePiece:
        take(sentencepiece(now, s.charsmap));
        break;
    }
  }
  return now;
}

std::string Normaliser::sentencepiece(std::string_view text, const Charsmap& charsmap) const {
  const std::string_view space = rules_.escape_whitespaces ? kSpaceSymbol : " ";
  // What the front of the text becomes, and how many bytes that was.
  const auto front = [&]() -> Charsmap::Match {
    if (const Trie::Match kept = protect_.longest(text); kept.length > 0) {
      return {kept.length, text.substr(0, kept.length)};
    }
    if (const Charsmap::Match mapped = charsmap.longest(text); mapped.length > 0) return mapped;
    const std::size_t length = character_bytes(text[0]);
    return {length, text.substr(0, length)};
  };
  if (rules_.remove_extra_whitespaces) {
    while (!text.empty()) {
      const Charsmap::Match match = front();
      if (match.by != " ") break;
      text.remove_prefix(match.length);
    }
  }
  if (text.empty()) return {};

  std::string out;
  out.reserve(text.size() + text.size() / 2);
  if (rules_.add_dummy_prefix && !rules_.treat_whitespace_as_suffix) out += space;
  bool after_space = rules_.remove_extra_whitespaces;
  while (!text.empty()) {
    Charsmap::Match match = front();
    text.remove_prefix(match.length);
    while (after_space && !match.by.empty() && match.by[0] == ' ') match.by.remove_prefix(1);
    for (const char c : match.by) {
      if (c == ' ') {
        out += space;
      } else {
        out += c;
      }
    }
    if (!match.by.empty()) {
      after_space = rules_.remove_extra_whitespaces && match.by.back() == ' ';
    }
  }
  if (rules_.remove_extra_whitespaces) {
    while (out.size() >= space.size() &&
           std::string_view(out).substr(out.size() - space.size()) == space) {
      out.resize(out.size() - space.size());
    }
  }
  if (rules_.add_dummy_prefix && rules_.treat_whitespace_as_suffix) out += space;
  return out;
}

}  // namespace rev::data
