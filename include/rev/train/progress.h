#pragma once

#include <chrono>
#include <cstdio>
#include <string>

namespace rev::train {

/// What a run shows while it goes on: on a terminal one line that is rewritten in place, elsewhere
/// (a log) a plain line now and then.
class Progress {
 public:
  /// out: not owned. interval: seconds between plain lines.
  explicit Progress(std::FILE* out, double interval = 10);
  ~Progress();  ///< ends the line
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// Where the run stands; often not shown.
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
