#include "rev/data/token_source.h"

#include <algorithm>
#include <c10/util/Exception.h>
#include <cmath>

namespace rev::data {
namespace {

template <typename Token>
void widen(const void* from, std::int64_t begin, std::int64_t count, std::int64_t* out) {
  const Token* tokens = static_cast<const Token*>(from) + begin;
  std::copy(tokens, tokens + count, out);
}

}  // namespace

TokenSource::TokenSource(std::vector<Segment> segments, std::int64_t vocab,
                         std::int64_t skipped_files)
    : vocab_(vocab), skipped_files_(skipped_files) {
  auto placed = std::make_shared<std::vector<Placed>>();
  for (Segment& segment : segments) {
    TORCH_CHECK(segment.width == 1 || segment.width == 2 || segment.width == 4,
                "TokenSource: expected tokens of 1, 2 or 4 bytes, got ", segment.width);
    is_text_ = is_text_ && segment.width == 1;
    const std::int64_t begin = size_;
    size_ += segment.count;
    if (segment.count > 0) placed->push_back({std::move(segment), begin});
  }
  segments_ = std::move(placed);
}

void TokenSource::read(std::int64_t begin, std::int64_t count, std::int64_t* out) const {
  TORCH_CHECK(begin >= 0 && count >= 0 && begin <= size_ - count, "TokenSource: tokens ", begin,
              " to ", begin + count, " asked for, there are ", size_);
  if (count == 0) return;
  begin += offset_;
  auto segment = std::upper_bound(segments_->begin(), segments_->end(), begin,
                                  [](std::int64_t at, const Placed& s) { return at < s.begin; });
  for (--segment; count > 0; ++segment) {
    const std::int64_t first = begin - segment->begin;
    const std::int64_t n = std::min(count, segment->count - first);
    if (segment->width == 1) {
      widen<std::uint8_t>(segment->data, first, n, out);
    } else if (segment->width == 2) {
      widen<std::uint16_t>(segment->data, first, n, out);
    } else {
      widen<std::uint32_t>(segment->data, first, n, out);
    }
    begin += n;
    out += n;
    count -= n;
  }
}

TokenSource TokenSource::slice(std::int64_t begin, std::int64_t end) const {
  TORCH_CHECK(0 <= begin && begin <= end && end <= size_, "TokenSource: slice ", begin, " to ", end,
              " asked for, there are ", size_, " tokens");
  TokenSource part = *this;
  part.offset_ += begin;
  part.size_ = end - begin;
  return part;
}

std::pair<TokenSource, TokenSource> split_tokens(const TokenSource& tokens, double fraction) {
  TORCH_CHECK(fraction > 0 && fraction < 1,
              "split_tokens: expected a fraction between 0 and 1, got ", fraction);
  const std::int64_t n = tokens.size();
  const auto n_valid = static_cast<std::int64_t>(std::floor(fraction * static_cast<double>(n)));
  TORCH_CHECK(n_valid > 0 && n_valid < n, n, " tokens are too few to give ", fraction,
              " of them to validation");
  return {tokens.slice(0, n - n_valid), tokens.slice(n - n_valid, n)};
}

}  // namespace rev::data
