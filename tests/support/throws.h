#pragma once

#include <c10/util/Exception.h>
#include <exception>
#include <gtest/gtest.h>
#include <string>

namespace rev::support {

/// What calling `call` throws, as a program would show it: one sentence without a backtrace. Empty
/// where nothing is thrown.
template <typename Call>
std::string message_of(Call&& call) {
  try {
    call();
  } catch (const c10::Error& error) {
    return error.what_without_backtrace();
  } catch (const std::exception& error) {
    return error.what();
  }
  return "";
}

}  // namespace rev::support

/// Expects `expression` to throw with `part` in its message.
#define EXPECT_THROW_WITH(expression, part)                      \
  EXPECT_PRED_FORMAT2(::testing::IsSubstring, std::string(part), \
                      ::rev::support::message_of([&] { (void)(expression); }))
