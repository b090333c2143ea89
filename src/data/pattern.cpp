#include "data/pattern.h"

#include <c10/util/Exception.h>
#include <utility>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

namespace rev::data {
namespace {

constexpr std::size_t kMaxStack = std::size_t{16} << 20;  // bytes, for a pattern's backtracking
constexpr std::uint32_t kMaxSteps = 10'000'000;           // in one search

// PCRE2's \s has U+180E too, which has not been white space since Unicode 6.3.
constexpr const char* kSpaces = R"(\p{Z}\t-\r\x{85})";

std::string spell_out_spaces(const std::string& expression) {
  std::string out;
  bool in_class = false;
  for (std::size_t i = 0; i < expression.size(); ++i) {
    const char c = expression[i];
    if (c == '\\' && i + 1 < expression.size()) {
      const char escaped = expression[++i];
      if (escaped == 's') {
        out += in_class ? kSpaces : "[" + std::string(kSpaces) + "]";
      } else if (escaped == 'S' && !in_class) {
        out += "[^" + std::string(kSpaces) + "]";
      } else {
        out += {c, escaped};
      }
      continue;
    }
    if (c == '[') in_class = true;
    if (c == ']') in_class = false;
    out += c;
  }
  return out;
}

std::string message_of(int error) {
  PCRE2_UCHAR text[256];
  pcre2_get_error_message(error, text, sizeof(text));
  return reinterpret_cast<const char*>(text);
}

}  // namespace

struct PatternScratch::State {
  pcre2_match_data* match = pcre2_match_data_create(1, nullptr);
  pcre2_match_context* context = pcre2_match_context_create(nullptr);
  pcre2_jit_stack* stack = pcre2_jit_stack_create(32 << 10, kMaxStack, nullptr);

  State() {
    TORCH_CHECK(match != nullptr && context != nullptr, "no memory to search text");
    if (stack != nullptr) pcre2_jit_stack_assign(context, nullptr, stack);
    pcre2_set_match_limit(context, kMaxSteps);
    pcre2_set_heap_limit(context, kMaxStack >> 10);
  }
  ~State() {
    pcre2_jit_stack_free(stack);
    pcre2_match_context_free(context);
    pcre2_match_data_free(match);
  }
  State(const State&) = delete;
  State& operator=(const State&) = delete;
};

PatternScratch::PatternScratch() : state_(std::make_unique<State>()) {}
PatternScratch::~PatternScratch() = default;
PatternScratch::PatternScratch(PatternScratch&&) noexcept = default;

struct Pattern::State {
  pcre2_code* code = nullptr;
  bool jit = false;
  std::string where;

  State() = default;
  ~State() { pcre2_code_free(code); }
  State(const State&) = delete;
  State& operator=(const State&) = delete;
};

Pattern::Pattern(const std::string& expression, const std::string& where)
    : state_(std::make_unique<State>()) {
  const std::string spelled = spell_out_spaces(expression);
  int error = 0;
  PCRE2_SIZE at = 0;
  state_->where = where;
  state_->code =
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(spelled.data()), spelled.size(),
                    PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &error, &at, nullptr);
  TORCH_CHECK(state_->code != nullptr, where, ": not a regular expression: ", message_of(error));
  // Where memory may not be executed, or the library has no compiler, the pattern is interpreted.
  state_->jit = pcre2_jit_compile(state_->code, PCRE2_JIT_COMPLETE) == 0;
}

Pattern::~Pattern() = default;
Pattern::Pattern(Pattern&&) noexcept = default;

bool Pattern::find(std::string_view text, std::size_t from, PatternScratch& scratch,
                   Match& match) const {
  PatternScratch::State& s = *scratch.state_;
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  const int found = state_->jit ? pcre2_jit_match(state_->code, subject, text.size(), from,
                                                  PCRE2_NO_UTF_CHECK, s.match, s.context)
                                : pcre2_match(state_->code, subject, text.size(), from,
                                              PCRE2_NO_UTF_CHECK, s.match, s.context);
  if (found == PCRE2_ERROR_NOMATCH) return false;
  TORCH_CHECK(found >= 0, state_->where, ": gives up at byte ", from,
              " of the text: ", message_of(found));
  const PCRE2_SIZE* range = pcre2_get_ovector_pointer(s.match);
  match = {range[0], range[1]};
  return true;
}

}  // namespace rev::data
