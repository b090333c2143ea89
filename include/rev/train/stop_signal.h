#pragma once

namespace rev::train {

/// SIGINT, SIGTERM, SIGHUP (the terminal is gone) and SIGPIPE (nobody reads the output any more) as
/// a question. While an object lives they are only noted, so that a program can finish its step and
/// save; a second SIGINT or SIGTERM ends the process as it always would. A signal that the process
/// was started to ignore stays ignored.
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
