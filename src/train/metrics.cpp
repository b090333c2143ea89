#include "rev/train/metrics.h"

#include <c10/util/Exception.h>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>
#include <string>
#include <system_error>

#include "rev/io/file.h"

namespace rev::train {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;

// Bytes of the lines up to step `done`, which are whole and in order.
size_t length_until(const std::string& text, int64_t done) {
  size_t length = 0;
  for (size_t end; (end = text.find('\n', length)) != std::string::npos; length = end + 1) {
    const auto line = ordered_json::parse(text.begin() + static_cast<std::ptrdiff_t>(length),
                                          text.begin() + static_cast<std::ptrdiff_t>(end), nullptr,
                                          /*allow_exceptions=*/false);
    const bool is_step = line.is_object() && line.contains("step") &&
                         line["step"].is_number_integer() && line["step"].get<int64_t>() <= done;
    if (!is_step) break;
  }
  return length;
}

}  // namespace

MetricsFile::MetricsFile(const fs::path& path, int64_t done) : path_(path) {
  if (fs::exists(path)) {
    std::error_code error;
    fs::resize_file(path, length_until(io::read_file(path), done), error);
    TORCH_CHECK(!error, path.string(), ": cannot be cut: ", error.message());
  }
  file_ = std::fopen(path.c_str(), "ae");
  TORCH_CHECK(file_ != nullptr, path.string(), ": cannot be written: ", std::strerror(errno));
}

MetricsFile::~MetricsFile() { std::fclose(file_); }

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
  const bool written =
      std::fwrite(text.data(), 1, text.size(), file_) == text.size() && std::fflush(file_) == 0;
  TORCH_CHECK(written, path_.string(), ": cannot be written: ", std::strerror(errno));
}

}  // namespace rev::train
