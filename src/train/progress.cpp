#include "rev/train/progress.h"

#include <unistd.h>

namespace rev::train {

Progress::Progress(std::FILE* out, double interval)
    : out_(out),
      terminal_(::isatty(::fileno(out)) != 0),
      interval_(terminal_ ? 0.1 : interval),
      next_(Clock::now()) {}

Progress::~Progress() {
  if (!open_) return;
  std::fputc('\n', out_);
  std::fflush(out_);
}

void Progress::clear() {
  if (open_) std::fputs("\r\033[K", out_);
  open_ = false;
}

void Progress::update(const std::string& text) {
  const Clock::time_point now = Clock::now();
  if (now < next_) return;
  next_ = now + std::chrono::duration_cast<Clock::duration>(interval_);
  clear();
  std::fputs(text.c_str(), out_);
  if (!terminal_) std::fputc('\n', out_);
  open_ = terminal_;
  std::fflush(out_);
}

void Progress::say(const std::string& text) {
  clear();
  std::fprintf(out_, "%s\n", text.c_str());
  std::fflush(out_);
}

}  // namespace rev::train
