#include "data/splitter.h"

#include <c10/util/Exception.h>
#include <string>
#include <utility>

#include "rev/data/utf8.h"

namespace rev::data {
namespace {

using Kind = SplitStep::Kind;
using Behaviour = SplitStep::Behaviour;
using Prepend = SplitStep::Prepend;

/// Pieces of a text that are matches by turns, cut as a behaviour says. Text that no match covers
/// is a piece too.
class Cutter {
 public:
  Cutter(std::string_view text, const SplitStep& step, Splitter::Emit emit)
      : text_(text), step_(step), emit_(emit) {}

  void match(std::size_t begin, std::size_t end) {
    if (begin > done_) piece(begin, step_.invert);
    if (end > begin) piece(end, !step_.invert);
  }
  void finish() {
    if (done_ < text_.size()) piece(text_.size(), step_.invert);
    flush();
  }

 private:
  void piece(std::size_t end, bool is_match) {
    bool joins = false;  // what is held so far
    switch (step_.behaviour) {
      case Behaviour::Isolated:
      case Behaviour::Removed:
        break;
      case Behaviour::MergedWithPrevious:
        joins = is_match && !last_is_match_;
        break;
      case Behaviour::MergedWithNext:
        joins = !is_match && last_is_match_;
        break;
      case Behaviour::Contiguous:
        joins = is_match == last_is_match_;
        break;
    }
    if (!joins) flush();
    held_ = end > done_ && !(is_match && step_.behaviour == Behaviour::Removed);
    done_ = end;
    if (!held_) begin_ = done_;
    last_is_match_ = is_match;
  }
  void flush() {
    if (held_ && done_ > begin_) emit_(text_.substr(begin_, done_ - begin_));
    begin_ = done_;
    held_ = false;
  }

  std::string_view text_;
  const SplitStep& step_;
  Splitter::Emit emit_;
  std::size_t begin_ = 0, done_ = 0;  // of the piece that is held back, for it may grow
  bool held_ = false, last_is_match_ = false;
};

void match_pattern(std::string_view text, const Pattern& pattern, PatternScratch& scratch,
                   Cutter& cut) {
  Pattern::Match match;
  for (std::size_t from = 0; from < text.size() && pattern.find(text, from, scratch, match);) {
    cut.match(match.begin, match.end);
    from = match.end;
    if (match.begin == match.end && from < text.size()) from += character_bytes(text[from]);
  }
}

void match_text(std::string_view text, std::string_view pattern, Cutter& cut) {
  for (std::size_t from = 0;;) {
    const std::size_t at = text.find(pattern, from);
    if (at == std::string_view::npos) return;
    from = at + pattern.size();
    cut.match(at, from);
  }
}

SplitStep cuts_before(const std::string& pattern) {
  SplitStep step;
  step.kind = Kind::Text;
  step.pattern = pattern;
  step.behaviour = Behaviour::MergedWithNext;
  return step;
}

}  // namespace

Splitter::Splitter(const TokenizerSpec& spec) {
  for (const SplitStep& step : spec.split) {
    TORCH_CHECK(
        !step.pattern.empty() || step.kind == Kind::Digits || step.kind == Kind::PrefixSpace,
        spec.name, ": text is split at nothing");
    Step made{step, std::nullopt};
    if (step.kind == Kind::Pattern) {
      made.pattern.emplace(step.pattern, spec.name + ": pattern of words");
    } else if (step.kind == Kind::Digits) {
      made.pattern.emplace(step.individual ? "\\p{N}" : "\\p{N}+", spec.name);
    }
    steps_.push_back(std::move(made));
  }
}

void Splitter::run(std::size_t index, std::string_view text, bool first, PatternScratch& scratch,
                   Emit emit) const {
  if (index == steps_.size()) return emit(text);
  const SplitStep& step = steps_[index].step;
  const auto next = [&](std::string_view word) {
    run(index + 1, word, first && word.data() == text.data(), scratch, emit);
  };
  if (step.kind == Kind::PrefixSpace) {
    if (text[0] == ' ') return run(index + 1, text, first, scratch, emit);
    std::string spaced(1, ' ');
    spaced += text;
    return run(index + 1, spaced, first, scratch, emit);
  }
  if (step.kind == Kind::Metaspace) {
    std::string spaced;
    for (const char c : text) {
      if (c == ' ') {
        spaced += step.pattern;
      } else {
        spaced += c;
      }
    }
    const bool wanted =
        step.prepend == Prepend::Always || (step.prepend == Prepend::First && first);
    if (wanted && spaced.compare(0, step.pattern.size(), step.pattern) != 0) {
      spaced.insert(0, step.pattern);
    }
    text = spaced;
    if (!step.split) return run(index + 1, text, first, scratch, emit);
    const SplitStep cuts = cuts_before(step.pattern);
    Cutter cut(text, cuts, next);
    match_text(text, step.pattern, cut);
    return cut.finish();
  }
  Cutter cut(text, step, next);
  if (step.kind == Kind::Text) {
    match_text(text, step.pattern, cut);
  } else {
    match_pattern(text, *steps_[index].pattern, scratch, cut);
  }
  cut.finish();
}

}  // namespace rev::data
