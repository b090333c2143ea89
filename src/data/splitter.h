#pragma once

#include <c10/util/FunctionRef.h>
#include <cstddef>
#include <optional>
#include <string_view>
#include <vector>

#include "data/pattern.h"
#include "data/tokenizer_spec.h"

namespace rev::data {

/// The steps of a spec's `split`, one after the other.
class Splitter {
 public:
  using Emit = c10::function_ref<void(std::string_view word)>;

  explicit Splitter(const TokenizerSpec& spec);

  /// Cuts valid UTF-8 into words that are not empty, in order. first: nothing precedes the text.
  void operator()(std::string_view text, bool first, PatternScratch& scratch, Emit emit) const {
    if (!text.empty()) run(0, text, first, scratch, emit);
  }

 private:
  struct Step {
    SplitStep step;
    std::optional<Pattern> pattern;
  };

  void run(std::size_t index, std::string_view text, bool first, PatternScratch& scratch,
           Emit emit) const;

  std::vector<Step> steps_;
};

}  // namespace rev::data
