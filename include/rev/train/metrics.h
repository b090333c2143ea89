#pragma once

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <optional>

namespace rev::train {

/// What is recorded of an optimizer step.
struct StepMetrics {
  int64_t step = 0;  ///< counted from 1
  double loss = 0;   ///< mean over the step's tokens, nats
  double lr = 0;
  double grad_norm = 0;  ///< before clipping
  double tokens_per_s = 0;
  double peak_mib = 0;               ///< most tensor memory at one time during the step, 2^20 bytes
  int64_t drift = 0;                 ///< rows of rebuilt states that differ from forward's
  std::optional<double> valid_loss;  ///< nats a token, where the step was evaluated
};

/// A file with one JSON object a line, one line a step. Each line is handed to the system at once,
/// so that a killed process loses none.
class MetricsFile {
 public:
  /// Opens the file, or creates it where there is none. Throws c10::Error, with nothing changed,
  /// where it cannot be written, and where it is not empty and its first line is not a step's.
  explicit MetricsFile(const std::filesystem::path& path);
  /// Removes a file that was created and got no line.
  ~MetricsFile();
  MetricsFile(const MetricsFile&) = delete;
  MetricsFile& operator=(const MetricsFile&) = delete;

  /// Removes the lines of steps after `done`, and one that was cut. Throws c10::Error where it
  /// cannot.
  void forget_after(int64_t done);

  /// Removes all lines, as far as it can: a file that was created is removed in the end.
  void forget_all() noexcept;

  /// Throws c10::Error where the line cannot be written.
  void write(const StepMetrics& metrics);

 private:
  std::filesystem::path path_;
  std::FILE* file_ = nullptr;
  bool created_ = false;
  bool written_ = false;
};

}  // namespace rev::train
