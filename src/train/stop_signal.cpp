#include "rev/train/stop_signal.h"

#include <csignal>
#include <cstddef>
#include <iterator>
#include <signal.h>

namespace rev::train {
namespace {

constexpr int kSignals[] = {SIGINT, SIGTERM};

volatile std::sig_atomic_t noted = 0;
struct sigaction former[std::size(kSignals)];

void note(int) { noted = 1; }

}  // namespace

StopSignal::StopSignal() {
  noted = 0;
  struct sigaction action = {};
  action.sa_handler = &note;
  action.sa_flags = static_cast<int>(SA_RESTART | SA_RESETHAND);
  for (size_t i = 0; i < std::size(kSignals); ++i) ::sigaction(kSignals[i], &action, &former[i]);
}

StopSignal::~StopSignal() {
  for (size_t i = 0; i < std::size(kSignals); ++i) ::sigaction(kSignals[i], &former[i], nullptr);
}

bool StopSignal::requested() const { return noted != 0; }

}  // namespace rev::train
