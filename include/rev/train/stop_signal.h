#pragma once

namespace rev::train {

/// SIGINT and SIGTERM as a question. While an object lives, the first of them is only noted, so
/// that a program can finish its step and save; a second one ends the process as it always would.
///
/// One at a time; the former handlers come back with the destructor.
class StopSignal {
 public:
  StopSignal();
  ~StopSignal();
  StopSignal(const StopSignal&) = delete;
  StopSignal& operator=(const StopSignal&) = delete;

  bool requested() const;
};

}  // namespace rev::train
