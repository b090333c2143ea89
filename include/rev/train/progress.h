#pragma once

#include <chrono>
#include <cstdio>
#include <string>

namespace rev::train {

/// Seconds as a person would say them: "42 s", "3 min 05 s", "2 h 10 min".
std::string duration(double seconds);

/// What a run shows while it goes on: on a terminal one line that is rewritten in place, elsewhere
/// (a log) a plain line now and then.
class Progress {
 public:
  /// out: not owned. interval: seconds between plain lines.
  explicit Progress(std::FILE* out, double interval = 10);
  ~Progress();  ///< ends the line
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// Where the run stands; often not shown, and cut to the width of a terminal.
  void update(const std::string& text);

  /// A line that stays.
  void say(const std::string& text);

 private:
  using Clock = std::chrono::steady_clock;

  void clear();

  std::FILE* out_;
  bool terminal_;
  std::chrono::duration<double> interval_;
  Clock::time_point next_;
  bool open_ = false;  // a line that can be rewritten is on the terminal
};

}  // namespace rev::train
