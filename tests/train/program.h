// Running rev-gpt2 as a user does.
#pragma once

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <fcntl.h>
#include <filesystem>
#include <gtest/gtest.h>
#include <string>
#include <sys/wait.h>
#include <unistd.h>
#include <utility>
#include <vector>

#include "support/temp_folder.h"

namespace rev::train {

using Arguments = std::vector<std::string>;

inline Arguments operator+(Arguments a, const Arguments& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

/// The program, or an empty path where this build has none.
inline std::filesystem::path find_program(const std::string& name = "rev-gpt2") {
  const char* folder = std::getenv("REV_BIN_DIR");
  if (folder == nullptr) return {};
  const auto program = std::filesystem::path(folder) / name;
  return std::filesystem::exists(program) ? program : std::filesystem::path();
}

/// One run; what it prints goes to a file of the test's.
class Program {
 public:
  Program(const Arguments& arguments, std::filesystem::path log,
          const std::string& name = "rev-gpt2")
      : log_(std::move(log)) {
    const std::string program = find_program(name).string();
    std::vector<char*> argv = {const_cast<char*>(program.c_str())};
    for (const std::string& a : arguments) argv.push_back(const_cast<char*>(a.c_str()));
    argv.push_back(nullptr);
    pid_ = ::fork();
    if (pid_ != 0) return;
    const int file = ::open(log_.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0666);
    ::dup2(file, STDOUT_FILENO);
    ::dup2(file, STDERR_FILENO);
    ::execv(argv[0], argv.data());
    ::_exit(127);
  }
  ~Program() {
    if (pid_ <= 0) return;
    send(SIGKILL);
    wait();
  }
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  void send(int signal) const { ::kill(pid_, signal); }

  /// Waits until a file is there. False where the program ended first.
  bool wait_for(const std::filesystem::path& file) {
    while (!std::filesystem::exists(file)) {
      if (::waitpid(pid_, &status_, WNOHANG) == pid_) {
        pid_ = 0;
        return std::filesystem::exists(file);
      }
      ::usleep(1000);
    }
    return true;
  }

  /// Waits for the end: the exit code, or minus the signal that ended it.
  int wait() {
    if (pid_ > 0) ::waitpid(std::exchange(pid_, 0), &status_, 0);
    return WIFEXITED(status_) ? WEXITSTATUS(status_) : -WTERMSIG(status_);
  }

  std::string output() const { return support::read_bytes(log_); }

 private:
  std::filesystem::path log_;
  pid_t pid_ = 0;
  int status_ = 0;
};

/// A folder with a text to train on, and runs in it.
class RevGpt2Test : public ::testing::Test {
 protected:
  void SetUp() override {
    if (find_program().empty()) GTEST_SKIP() << "rev-gpt2 is not built";
    support::write_bytes(folder_ / "text.txt", text(20000));
  }

  /// Words in an order that looks random and is always the same.
  static std::string text(size_t bytes) {
    const char* words[] = {"the ", "grid ", "keeps ", "every ", "bit ", "of ", "a ", "state.\n"};
    std::string text;
    for (uint32_t state = 1; text.size() < bytes;) {
      state = state * 1664525u + 1013904223u;
      text += words[state >> 29];
    }
    text.resize(bytes);
    return text;
  }

  // Pairs `--name value` of which `options` replace those of the same name.
  static Arguments take_last(Arguments pairs, const Arguments& options) {
    for (size_t i = 0; i < pairs.size(); i += 2) {
      for (const std::string& option : options) {
        if (option != pairs[i]) continue;
        pairs.erase(pairs.begin() + static_cast<std::ptrdiff_t>(i),
                    pairs.begin() + static_cast<std::ptrdiff_t>(i) + 2);
        i -= 2;
        break;
      }
    }
    return pairs + options;
  }

  std::filesystem::path path(const std::string& name) const { return folder_ / name; }

  /// A run of a few tenths of a second, to a folder of that name. Options given later win.
  Arguments tiny(const std::string& out, const Arguments& options = {}) const {
    return Arguments{"train", "--out", path(out).string()} +
           take_last({"--data",         path("text.txt").string(),
                      "--threads",      "1",
                      "--layers",       "3",
                      "--heads",        "2",
                      "--channels",     "16",
                      "--seq",          "16",
                      "--batch",        "4",
                      "--steps",        "5",
                      "--warmup",       "1",
                      "--lr",           "0.01",
                      "--eval-every",   "0",
                      "--eval-batches", "2",
                      "--save-every",   "0"},
                     options);
  }

  struct Result {
    int code;
    std::string output;
  };
  Result run(const Arguments& arguments, const std::string& name = "rev-gpt2") const {
    Program program(arguments, path("log"), name);
    const int code = program.wait();
    return {code, program.output()};
  }

  /// Runs, expects success, and returns the bytes of the weights.
  std::string weights(const std::string& out, const Arguments& arguments,
                      const std::string& name = "rev-gpt2") const {
    const Result result = run(arguments, name);
    EXPECT_EQ(result.code, 0) << result.output;
    return support::read_bytes(path(out) / "model.safetensors");
  }

  support::TempFolder folder_;
};

}  // namespace rev::train
