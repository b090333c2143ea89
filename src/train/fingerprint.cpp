#include "rev/train/fingerprint.h"

#include <algorithm>
#include <cinttypes>
#include <cstdint>
#include <cstdio>
#include <vector>

#include "rev/io/checksum.h"

namespace rev::train {
namespace {

std::string to_text(int64_t n, uint64_t sum) {
  char text[64];
  std::snprintf(text, sizeof text, "%" PRId64 " tokens, %016" PRIx64, n, sum);
  return text;
}

}  // namespace

std::string fingerprint(const data::TokenSource& tokens) {
  constexpr int64_t kStretches = 1024, kLength = 1024;
  const int64_t n = tokens.size();
  std::vector<int64_t> read(static_cast<size_t>(std::min(n, kStretches * kLength)));
  if (n <= kStretches * kLength) {
    tokens.read(0, n, read.data());
  } else {
    const double stride = static_cast<double>(n - kLength) / (kStretches - 1);
    for (int64_t i = 0; i < kStretches; ++i) {
      const auto begin = static_cast<int64_t>(static_cast<double>(i) * stride);
      tokens.read(std::min(begin, n - kLength), kLength, read.data() + i * kLength);
    }
  }
  return to_text(n, io::checksum(read.data(), read.size() * sizeof(int64_t)));
}

std::string fingerprint(const data::Tokenizer& tokenizer) {
  return to_text(tokenizer.vocab(), tokenizer.digest());
}

}  // namespace rev::train
