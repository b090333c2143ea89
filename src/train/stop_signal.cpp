#include "rev/train/stop_signal.h"

#include <csignal>
#include <cstddef>
#include <iterator>
#include <signal.h>

namespace rev::train {
namespace {

// SIGHUP may come from the terminal and from its shell, SIGPIPE at each write.
constexpr struct {
  int number;
  bool once;
} kSignals[] = {{SIGINT, true}, {SIGTERM, true}, {SIGHUP, false}, {SIGPIPE, false}};

volatile std::sig_atomic_t noted = 0;
struct sigaction former[std::size(kSignals)];

void note(int) { noted = 1; }

}  // namespace

StopSignal::StopSignal() {
  noted = 0;
  for (size_t i = 0; i < std::size(kSignals); ++i) {
    const auto [number, once] = kSignals[i];
    ::sigaction(number, nullptr, &former[i]);
    if (former[i].sa_handler == SIG_IGN) continue;
    struct sigaction action = {};
    action.sa_handler = &note;
    action.sa_flags = SA_RESTART | (once ? static_cast<int>(SA_RESETHAND) : 0);
    ::sigaction(number, &action, nullptr);
  }
}

StopSignal::~StopSignal() {
  for (size_t i = 0; i < std::size(kSignals); ++i) {
    ::sigaction(kSignals[i].number, &former[i], nullptr);
  }
}

bool StopSignal::requested() const { return noted != 0; }

}  // namespace rev::train
