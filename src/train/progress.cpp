#include "rev/train/progress.h"

#include <cstdint>
#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

namespace rev::train {
namespace {

// What fits on a line of the terminal, so that it can be rewritten.
std::string cut(const std::string& text, std::FILE* terminal) {
  winsize size{};
  if (::ioctl(::fileno(terminal), TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return text;
  return text.substr(0, size.ws_col - 1u);
}

}  // namespace

std::string duration(double seconds) {
  const auto s = static_cast<int64_t>(seconds + 0.5);
  if (s < 60) return fmt::format("{} s", s);
  if (s < 3600) return fmt::format("{} min {:02} s", s / 60, s % 60);
  return fmt::format("{} h {:02} min", s / 3600, s / 60 % 60);
}

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
  std::fputs((terminal_ ? cut(text, out_) : text).c_str(), out_);
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
