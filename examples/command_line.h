// Commands and options as the programs here take them: each option with its unit and default in
// --help, and one sentence for what is wrong.
#pragma once

#include <ATen/Context.h>
#include <CLI/CLI.hpp>
#include <algorithm>
#include <c10/core/Device.h>
#include <c10/util/Exception.h>
#include <charconv>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <iterator>
#include <limits>
#include <string>
#include <string_view>
#include <system_error>
#include <unistd.h>
#include <vector>

#include "rev/kernels/device.h"
#include "rev/train/nearest_name.h"

/// What an option may be. Its description is what --help calls it.
using Kind = CLI::Validator;

template <class T>
Kind between(T low, T high, const char* kind, const char* description) {
  const auto check = [=](std::string& text) -> std::string {
    T value{};
    const char* end = text.data() + text.size();
    const auto read = std::from_chars(text.data(), end, value);
    const bool is_read = read.ec == std::errc() && read.ptr == end;
    if (is_read && value >= low && value <= high) {
      text = fmt::format("{}", value);  // CLI11 would read 010 as 8
      return "";
    }
    const bool infinite = is_read && value - value != 0;  // or not a number
    const bool bounded = high < std::numeric_limits<T>::max() ||
                         read.ec == std::errc::result_out_of_range;  // of T itself
    const std::string range =
        bounded ? fmt::format("from {} to {}", low, high) : fmt::format("of at least {}", low);
    return fmt::format("expected a {}{} {}, got {}", infinite ? "finite " : "", kind, range, text);
  };
  return Kind(check, description);
}

inline Kind whole(int64_t low, int64_t high = std::numeric_limits<int64_t>::max()) {
  return between(low, high, "whole number", "N");
}

inline Kind number(double low, double high = std::numeric_limits<double>::max()) {
  return between(low, high, "number", "X");
}

/// A part of a whole that leaves a part.
inline Kind fraction() {
  const auto check = [](const std::string& text) -> std::string {
    double value = 0;
    const char* end = text.data() + text.size();
    const auto read = std::from_chars(text.data(), end, value);
    const bool fits = read.ec == std::errc() && read.ptr == end && value > 0 && value < 1;
    return fits ? "" : "expected a number above 0 and below 1, got " + text;
  };
  return Kind(check, "X");
}

inline Kind multiple_of(int64_t unit) {
  const Kind is_whole = whole(1);
  const auto check = [=](std::string& text) -> std::string {
    const std::string problem = is_whole(text);
    if (!problem.empty() || std::stoll(text) % unit == 0) return problem;
    return fmt::format("expected a multiple of {}, got {}", unit, text);
  };
  return Kind(check, "N");
}

/// CPU threads: more than any machine has would be refused by it in other words, or cut.
inline const Kind kThreads = whole(1, 1024);

inline Kind one_of(const std::vector<std::string>& names) {
  const std::string all = fmt::format("{}", fmt::join(names, "|"));
  const auto check = [=](const std::string& text) -> std::string {
    if (std::find(names.begin(), names.end(), text) != names.end()) return "";
    return fmt::format("expected one of {}, got {}", all, text);
  };
  return Kind(check, all);
}

inline Kind text(const char* description) {
  return Kind([](const std::string&) { return std::string(); }, description);
}

/// Adds options to a command: --NAME for a variable, --NAME and --no-NAME for a bool.
struct AddTo {
  CLI::App& app;

  void operator()(const std::string& name, bool& value, const Kind&, const char* help) const {
    app.add_flag("--" + name + ",!--no-" + name, value, help)
        ->default_str(value ? "true" : "false")
        ->multi_option_policy(CLI::MultiOptionPolicy::Throw)
        ->check(one_of({"true", "false"}).description(""));
  }

  template <class T>
  void operator()(const std::string& name, T& value, const Kind& kind, const char* help) const {
    CLI::Option* option = app.add_option("--" + name, value, help);
    // Not check, which lets a kind change nothing.
    option->type_name(kind.get_description())->transform(kind.description(""));
    option->capture_default_str();
    // A default that may not be given stands for "not given": nothing to show.
    if (!kind(option->get_default_str()).empty()) option->default_str("");
  }
};

/// "; did you mean NAME?", or nothing where no known name is near.
inline std::string suggest(const std::string& name, const std::vector<std::string>& known) {
  const std::string nearest = rev::train::nearest_name(name, known);
  return nearest.empty() ? "" : "; did you mean " + nearest + "?";
}

/// What is wrong where an option has too few or too many values, which CLI11 says in numbers.
inline std::string say_mismatch(const CLI::App& app, const CLI::ArgumentMismatch& error) {
  const std::string text = error.what(), name = text.substr(0, text.find(':'));
  const CLI::Option* option = app.get_option_no_throw(name);
  if (option == nullptr) return text;
  const size_t n = option->results().size();
  if (n > 1) return fmt::format("{}: expected once, got {} times", name, n);
  return fmt::format("{}: expected {}, got nothing", name, option->get_type_name());
}

/// Reads a command's line, argv[0] its name, into the variables of its options. False: help was
/// asked for, and printed. Throws c10::Error with one sentence for whatever is wrong.
inline bool parse(CLI::App& app, int argc, char** argv) {
  app.allow_extras();  // refused below, with the nearest known name
  app.get_formatter()->column_width(34);
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    std::fputs(app.help().c_str(), stdout);
    return false;
  } catch (const CLI::ArgumentMismatch& error) {
    TORCH_CHECK(false, say_mismatch(app, error));
  } catch (const CLI::ParseError& error) {
    TORCH_CHECK(false, error.what());
  }
  std::vector<std::string> known;
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) known.push_back("--" + name);
  }
  for (const std::string& extra : app.remaining()) {
    const std::string name = extra.substr(0, extra.find('='));
    TORCH_CHECK(!name.starts_with('-'), "unknown option ", name, suggest(name, known));
  }
  TORCH_CHECK(app.remaining().empty(), "unexpected argument ", app.remaining().front());
  return true;
}

/// The device that --device names: cpu, cuda (the first one) or auto, cuda where there is one.
/// Throws c10::Error where there is none or kernels cannot run on it.
inline c10::Device choose_device(const std::string& name) {
  const bool has_cuda = at::hasCUDA();
  TORCH_CHECK(name != "cuda" || has_cuda, "--device cuda: LibTorch finds no CUDA device");
  const c10::Device device =
      name == "cpu" || !has_cuda ? c10::Device(c10::kCPU) : c10::Device(c10::kCUDA, 0);
  rev::kernels::check_device(device);
  return device;
}

/// `code`, or 1 and a sentence where what was printed could not be written.
inline int check_output(int code, const char* program) {
  if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return code;
  std::fprintf(stderr, "%s: standard output cannot be written\n", program);
  return code == 0 ? 1 : code;
}

/// Ends the process with a sentence where a page of a mapped file is gone.
inline void refuse_lost_page(int) {
  constexpr std::string_view kSentence =
      "a file was shortened while it was read, or its disk failed\n";
  [[maybe_unused]] const auto ignored = ::write(STDERR_FILENO, kSentence.data(), kSentence.size());
  ::_exit(1);
}

/// Runs all of a program. Returns its exit code: that of `run`; 2 and a sentence for a c10::Error,
/// 1 for any other exception and where what it printed could not be written.
template <class Run>
int run_command(const char* program, const Run& run) {
  std::signal(SIGBUS, refuse_lost_page);
  try {
    return check_output(run(), program);
  } catch (const c10::Error& error) {
    std::fprintf(stderr, "%s: %s\n", program, error.what_without_backtrace());
    return 2;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s: %s\n", program, error.what());
    return 1;
  }
}

/// What a program does, by name: run(argc, argv) with argv[0] the command's name.
struct Command {
  const char* name;
  int (*run)(int argc, char** argv);
};

/// The command that argv[1] names, or `usage` for --help. Returns the exit code; throws c10::Error
/// where there is no such command.
inline int run_named(const std::vector<Command>& commands, const char* usage, int argc,
                     char** argv) {
  const std::string name = argc > 1 ? argv[1] : "";
  if (name == "--help" || name == "-h") return std::fputs(usage, stdout), 0;
  std::vector<std::string> names;
  for (const Command& command : commands) names.emplace_back(command.name);
  const std::string all =
      fmt::format("{} or {}", fmt::join(names.begin(), names.end() - 1, ", "), names.back());
  TORCH_CHECK(!name.empty(), "a command is needed: ", all, " (--help tells more)");
  const auto command = std::find(names.begin(), names.end(), name) - names.begin();
  names.emplace_back("--help");
  const std::string suggestion = suggest(name, names);
  TORCH_CHECK(command < std::ssize(commands), "unknown command ", name,
              suggestion.empty() ? "; expected " + all : suggestion);
  return commands[static_cast<size_t>(command)].run(argc - 1, argv + 1);
}

/// The whole of main for a program with commands.
inline int run_program(const char* program, const std::vector<Command>& commands, const char* usage,
                       int argc, char** argv) {
  return run_command(program, [&] { return run_named(commands, usage, argc, argv); });
}
