#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

namespace rev::data {

/// What a thread needs to search: made once, used for any number of patterns and texts.
class PatternScratch {
 public:
  PatternScratch();
  ~PatternScratch();
  PatternScratch(PatternScratch&&) noexcept;

 private:
  friend class Pattern;
  struct State;
  std::unique_ptr<State> state_;
};

/// A regular expression over UTF-8, compiled once, as Hugging Face's and tiktoken's engines read
/// it: `\s` is Unicode's White_Space.
class Pattern {
 public:
  /// Throws c10::Error, naming `where` it stands, for what is no regular expression.
  Pattern(const std::string& expression, const std::string& where);
  ~Pattern();
  Pattern(Pattern&&) noexcept;

  struct Match {
    std::size_t begin, end;  // bytes
  };
  /// The first match at or after byte `from` of valid UTF-8. False where there is none. Throws
  /// c10::Error where the search takes more steps or memory than any sane pattern needs.
  bool find(std::string_view text, std::size_t from, PatternScratch& scratch, Match& match) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace rev::data
