#include "rev/train/metrics.h"

#include <c10/util/Exception.h>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <system_error>

#include "rev/io/file.h"

namespace rev::train {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

// How each line begins: step is its first key.
constexpr std::string_view kBegin = "{\"step\":";

// The step that a line is of; none where it is not a line of metrics.
std::optional<int64_t> step_of(std::string_view line) {
  const auto object = ordered_json::parse(line.begin(), line.end(), nullptr,
                                          /*allow_exceptions=*/false);
  if (!object.is_object() || !object.contains("drift")) return std::nullopt;
  const auto step = object.find("step");
  if (step == object.end() || !step->is_number_integer()) return std::nullopt;
  return step->get<int64_t>();
}

// Bytes of the lines up to step `done`, which are whole and in order.
size_t length_until(std::string_view text, int64_t done) {
  size_t length = 0;
  for (size_t end; (end = text.find('\n', length)) != text.npos; length = end + 1) {
    const std::optional<int64_t> step = step_of(text.substr(length, end - length));
    if (!step || *step > done) break;
  }
  return length;
}

// Throws where a file's text is not empty and its first line is not a step's, whole or cut.
void check_metrics(std::string_view text, const std::string& file) {
  constexpr size_t kShown = 40;
  const std::string first(text.substr(0, text.find('\n')));
  const bool cut = first.size() == text.size() &&
                   first.compare(0, kBegin.size(), kBegin.substr(0, first.size())) == 0;
  TORCH_CHECK(cut || step_of(first), file, ": expected the metrics of a run, got a first line ",
              ordered_json(first.substr(0, kShown))
                  .dump(-1, ' ', /*ensure_ascii=*/true, ordered_json::error_handler_t::replace));
}

}  // namespace

MetricsFile::MetricsFile(const fs::path& path) : path_(path) {
  std::error_code ignored;
  created_ = !fs::exists(fs::symlink_status(path, ignored));
  if (created_) {
    io::write_file_atomically(path, "");  // says what is wrong with the folder
  } else if (fs::exists(path, ignored)) {
    check_metrics(io::read_file(path), path.string());
  }
  file_ = std::fopen(path.c_str(), "ae");
  TORCH_CHECK(file_ != nullptr, path.string(), ": cannot be written: ", std::strerror(errno));
}

MetricsFile::~MetricsFile() {
  std::fclose(file_);
  std::error_code ignored;
  if (created_ && !written_) fs::remove(path_, ignored);
}

void MetricsFile::forget_after(int64_t done) {
  std::error_code error;
  fs::resize_file(path_, length_until(io::read_file(path_), done), error);
  TORCH_CHECK(!error, path_.string(), ": cannot be cut: ", error.message());
}

void MetricsFile::forget_all() noexcept {
  std::error_code ignored;
  fs::resize_file(path_, 0, ignored);
  written_ = false;
}

void MetricsFile::write(const StepMetrics& metrics) {
  ordered_json line = {{"step", metrics.step},
                       {"loss", metrics.loss},
                       {"lr", metrics.lr},
                       {"grad_norm", metrics.grad_norm},
                       {"tokens_per_s", metrics.tokens_per_s},
                       {"peak_mib", metrics.peak_mib},
                       {"drift", metrics.drift}};
  if (metrics.valid_loss) line["valid_loss"] = *metrics.valid_loss;
  const std::string text = line.dump() + "\n";
  written_ = true;
  const bool written =
      std::fwrite(text.data(), 1, text.size(), file_) == text.size() && std::fflush(file_) == 0;
  TORCH_CHECK(written, path_.string(), ": cannot be written: ", std::strerror(errno));
}

}  // namespace rev::train
