// What the emulator says of a kernel.
#pragma once

#include <gtest/gtest.h>
#include <string>
#include <vector>

#include "emulator/kernels.h"
#include "emulator/launch.h"

namespace rev::emulator {

/// The message of the Error that `launch` throws when the threads run in this order; empty where it
/// throws none.
inline std::string message_of(void (*launch)(int*), unsigned schedule = 0) {
  std::vector<int> x(kThreads);
  choose_schedule(schedule);
  std::string message;
  try {
    launch(x.data());
  } catch (const Error& error) {
    message = error.what();
  }
  choose_schedule(0);
  return message;
}

/// Expects in every schedule a message with all of these parts.
template <class... Part>
void expect_message(void (*launch)(int*), const Part&... parts) {
  for (unsigned schedule = 0; schedule < kSchedules; ++schedule) {
    const std::string message = message_of(launch, schedule);
    for (const std::string& part : {std::string(parts)...}) {
      EXPECT_PRED_FORMAT2(::testing::IsSubstring, part, message);
    }
  }
}

}  // namespace rev::emulator
